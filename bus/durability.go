package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// CheckDurability finds out whether an acknowledged append is on disk.
//
// The embedded server always syncs first, and the answer is nil. Of a server
// elsewhere the setting can be asked only through its system services ($SYS
// JSZ), which an ordinary account may not use unless an operator has exported
// them to it. When every server that holds the first book answers that it syncs
// always, the answer is nil; when one says it does not, ErrNotDurable; in all
// other cases, of which "not permitted" is the usual one, ErrDurabilityUnknown.
//
// What is learnt is the servers' configuration, now, of the servers that are
// up. It is not a test of the disk: a drive that lies about its cache is believed.
func (b *Bus) CheckDurability(ctx context.Context) error {
	if b.embedded {
		return nil
	}
	holders, err := b.bookServers(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDurabilityUnknown, err)
	}
	answers, err := b.askSync(ctx, len(holders))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDurabilityUnknown, err)
	}
	for _, name := range holders {
		always, known := answers[name]
		if !known {
			return fmt.Errorf("%w: server %s did not say", ErrDurabilityUnknown, name)
		}
		if !always {
			return fmt.Errorf("%w: server %s does not run with sync_interval: always", ErrNotDurable, name)
		}
	}
	return nil
}

// bookServers names the servers that hold a copy of the first book.
func (b *Bus) bookServers(ctx context.Context) ([]string, error) {
	s, err := b.js.Stream(ctx, BookStream(0))
	if err != nil {
		return nil, err
	}
	cluster := s.CachedInfo().Cluster
	if cluster == nil || cluster.Leader == "" {
		return []string{b.nc.ConnectedServerName()}, nil
	}
	names := []string{cluster.Leader}
	for _, r := range cluster.Replicas {
		names = append(names, r.Name)
	}
	return names, nil
}

// askSync asks all servers for their JetStream settings and collects the answers
// of a moment: server name to "syncs always".
func (b *Bus) askSync(ctx context.Context, want int) (map[string]bool, error) {
	inbox := b.nc.NewInbox()
	sub, err := b.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := b.nc.PublishRequest(sysServerJSZ, inbox, []byte(`{"config":true}`)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	answers := map[string]bool{}
	for len(answers) < want {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			break // no more answers: who is missing is told by name
		}
		if headerOf(msg, headerStatus) == statusNoResponders {
			return nil, errors.New("this connection's account may not ask the servers")
		}
		var said struct {
			Server struct {
				Name string `json:"name"`
			} `json:"server"`
			Data struct {
				Config struct {
					SyncAlways bool `json:"sync_always"`
				} `json:"config"`
			} `json:"data"`
		}
		if err := json.Unmarshal(msg.Data, &said); err != nil {
			return nil, fmt.Errorf("read a server's settings: %w", err)
		}
		if said.Server.Name != "" {
			answers[said.Server.Name] = said.Data.Config.SyncAlways
		}
	}
	return answers, nil
}
