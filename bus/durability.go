package bus

import (
	"context"
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
	servers, err := b.Servers(ctx, holders...)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDurabilityUnknown, err)
	}
	answers := map[string]bool{}
	for _, server := range servers {
		answers[server.Name] = server.SyncAlways
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
