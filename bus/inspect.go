package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// serversPatience is how long all servers together may take to answer, and
// serversQuiet how long after a server's answer no other one is awaited, when
// it is not known how many there are.
const (
	serversPatience = 3 * time.Second
	serversQuiet    = 300 * time.Millisecond
)

// ServerState is how one server of the bus is set up and how it fares.
type ServerState struct {
	Name       string
	Version    string
	SyncAlways bool
	MaxMemory  int64  // bytes that streams in memory may take there
	MaxFile    int64  // bytes that streams in files may take there
	Memory     uint64 // bytes that they take
	File       uint64
}

// StreamState is how one stream stands.
type StreamState struct {
	Name     string
	Replicas int    // as configured
	Leader   string // "": none; on a server that stands alone, its name
	Copies   []Copy // those beside the leader's
	Last     uint64 // sequence of the last message
	Messages uint64
	MaxMsgs  int64 // 0 and less: no bound
	Bytes    uint64
	MaxBytes int64 // 0 and less: no bound
	Discards bool  // a full stream drops old messages instead of refusing new ones
}

// Copy is a replica of a stream that is not its leader.
type Copy struct {
	Server  string
	Current bool          // it has all that the leader has
	Offline bool          // its server is away
	Lag     uint64        // how many operations it is behind
	Active  time.Duration // how long ago the leader heard from it
}

// Servers asks the servers of the bus how they fare, until those of the given
// names have answered, or after three seconds. Without names it takes the answers of a
// moment. ErrNotPermitted says that this user may not ask.
func (b *Bus) Servers(ctx context.Context, names ...string) ([]ServerState, error) {
	inbox := b.nc.NewInbox()
	sub, err := b.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, closedOr(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	ctx, stop := b.refusals.during(ctx, sysServerJSZ)
	defer stop()
	if err := b.nc.PublishRequest(sysServerJSZ, inbox, []byte(`{"config":true}`)); err != nil {
		return nil, closedOr(err)
	}
	limited, cancel := context.WithTimeout(ctx, serversPatience)
	defer cancel()
	var servers []ServerState
	for missing := len(names); len(names) == 0 || missing > 0; {
		patience := serversPatience
		if len(names) == 0 && len(servers) > 0 {
			patience = serversQuiet
		}
		wait, done := context.WithTimeout(limited, patience)
		msg, err := sub.NextMsgWithContext(wait)
		done()
		switch {
		case errors.Is(context.Cause(ctx), ErrNotPermitted):
			return nil, context.Cause(ctx)
		case err != nil:
			return servers, nil // no more answers: who is missing is told by name
		case headerOf(msg, headerStatus) == statusNoResponders:
			return nil, fmt.Errorf("%w: its account has not been given the question", ErrNotPermitted)
		}
		s, err := decodeServer(msg.Data)
		if err != nil {
			return nil, err
		}
		if s.Name != "" {
			servers = append(servers, s)
		}
		if slices.Contains(names, s.Name) {
			missing--
		}
	}
	return servers, nil
}

func decodeServer(data []byte) (ServerState, error) {
	var said struct {
		Server struct {
			Name string `json:"name"`
			Ver  string `json:"ver"`
		} `json:"server"`
		Data struct {
			Memory uint64 `json:"memory"`
			File   uint64 `json:"storage"`
			Config struct {
				SyncAlways bool  `json:"sync_always"`
				MaxMemory  int64 `json:"max_memory"`
				MaxFile    int64 `json:"max_storage"`
			} `json:"config"`
		} `json:"data"`
	}
	if err := json.Unmarshal(data, &said); err != nil {
		return ServerState{}, fmt.Errorf("read a server's settings: %w", err)
	}
	d := said.Data
	return ServerState{Name: said.Server.Name, Version: said.Server.Ver, SyncAlways: d.Config.SyncAlways,
		MaxMemory: d.Config.MaxMemory, MaxFile: d.Config.MaxFile, Memory: d.Memory, File: d.File}, nil
}

// Streams are those of the layout that this user may ask about, the books first.
// One that is missing is left out.
func (b *Bus) Streams(ctx context.Context, l Layout) ([]StreamState, error) {
	var names []string
	for p := range Partition(l.Partitions) {
		names = append(names, BookStream(p))
	}
	var list []StreamState
	for _, name := range append(names, StreamCommands, streamDirectory, streamKeys, StreamSnapshots, StreamCheckpoints, StreamFeed, StreamHistory) {
		info, err := b.stream(ctx, name)
		switch {
		case errors.Is(err, ErrNotPermitted), errors.Is(err, jetstream.ErrStreamNotFound):
		case err != nil:
			return list, err
		default:
			list = append(list, b.streamState(info))
		}
	}
	return list, nil
}

func (b *Bus) streamState(info *jetstream.StreamInfo) StreamState {
	cfg := info.Config
	s := StreamState{Name: cfg.Name, Replicas: max(cfg.Replicas, 1), Last: info.State.LastSeq, Messages: info.State.Msgs, MaxMsgs: cfg.MaxMsgs,
		Bytes: info.State.Bytes, MaxBytes: cfg.MaxBytes, Discards: cfg.Discard == jetstream.DiscardOld, Leader: b.nc.ConnectedServerName()}
	if info.Cluster == nil {
		return s
	}
	s.Leader = info.Cluster.Leader
	for _, r := range info.Cluster.Replicas {
		s.Copies = append(s.Copies, Copy{Server: r.Name, Current: r.Current, Offline: r.Offline, Lag: r.Lag, Active: r.Active})
	}
	return s
}

// Inspect checks what Open checks and makes nothing: where COMMANDS is missing it
// gives the layout with ErrNoCommands.
func (b *Bus) Inspect(ctx context.Context) (Layout, error) {
	ctx, cancel := context.WithTimeout(ctx, createPatience)
	defer cancel()
	l, err := b.open(ctx, false)
	if err == nil || errors.Is(err, ErrNoCommands) {
		b.layout.Store(&l)
	}
	if err != nil {
		return l, fmt.Errorf("look at the book: %w", err)
	}
	return l, nil
}

// Skew is how far the clock of the server that leads the first book is ahead of
// ours, give or take within.
func (b *Bus) Skew(ctx context.Context) (ahead, within time.Duration, err error) {
	before := time.Now()
	info, err := b.askInfo(ctx, BookStream(0))
	if err != nil {
		return 0, 0, err
	}
	within = time.Since(before) / 2
	return info.Now.Sub(before.Add(within)), within, nil
}

// Secured reports whether the connection is by TLS, or to this process or machine.
func (b *Bus) Secured() bool {
	if _, err := b.nc.TLSConnectionState(); err == nil || b.embedded {
		return true
	}
	at, err := url.Parse(b.nc.ConnectedUrl())
	if err != nil {
		return false
	}
	ip := net.ParseIP(at.Hostname())
	return at.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// ServerVersion is that of the server at the other end; Supported says whether
// this program can work with it.
func (b *Bus) ServerVersion() (version string, supported error) {
	return b.nc.ConnectedServerVersion(), b.checkServer()
}

// SnapshotTime is when the newest snapshot of a partition was completed; zero
// when there is none, or this user may not see it.
func (b *Bus) SnapshotTime(ctx context.Context, p Partition) (time.Time, error) {
	subject := apiDirectGet + StreamSnapshots + "." + subjectSnapshots + p.String()
	m, err := b.request(ctx, subject, nil)
	if err != nil || headerOf(m, headerStatus) != "" {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339Nano, headerOf(m, headerTimeStamp))
}
