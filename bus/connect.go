package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// closePatience is how long Close waits for what was published to arrive.
const closePatience = 5 * time.Second

// ConnectConfig says which bus to reach and as whom.
type ConnectConfig struct {
	URL   string       // nats://host:port, several separated by commas; required
	Creds string       // path of a .creds file, or of a file with an nkey seed (.nk); "" connects without
	TLS   ClientTLS    // the zero value: as the URL and the server want it, with the system's authorities
	Name  string       // how the connection is called in the server's lists; "" means "rollbook"
	Log   *slog.Logger // nil means no logging
}

// Bus is one connection to the server, with what the package does over it. It
// may be used by any number of goroutines.
type Bus struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	log      *slog.Logger
	embedded bool                   // the server runs in this process, with sync always
	closed   chan struct{}          // closed when the connection has ended for good
	layout   atomic.Pointer[Layout] // what Create or Open found; nil before
	refusals refusals
}

// Connect reaches a server. The first attempt must succeed before ctx ends, or
// within 5 s; from then on the connection is kept up for ever, and what is asked
// while it is away fails at once instead of being sent later.
func Connect(ctx context.Context, cfg ConnectConfig) (*Bus, error) {
	if cfg.URL == "" {
		return nil, errors.New("connect to the bus: no URL given")
	}
	opts, err := credentials(cfg.Creds)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	secure, err := cfg.TLS.options()
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	return connect(ctx, cfg, append(opts, secure...))
}

// Close sees to it that what was published has reached the server, ends the
// connection and waits for that. Whoever has a Submitter, an Intake or a Follow
// on it ends that first. A second call does nothing.
func (b *Bus) Close() error {
	// Not the client's Drain: it waits by way of timers that it shares between all
	// connections of a process, which fake time (testing/synctest) does not allow.
	var err error
	if b.nc.IsConnected() {
		ctx, cancel := context.WithTimeout(context.Background(), closePatience)
		err = b.nc.FlushWithContext(ctx)
		cancel()
	}
	b.nc.Close()
	<-b.closed
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("close the bus: what was published last may not have arrived: %w", err)
	}
	return nil
}

// Conn is the connection beneath.
func (b *Bus) Conn() *nats.Conn { return b.nc }

// JetStream is the JetStream client of the connection.
func (b *Bus) JetStream() jetstream.JetStream { return b.js }

// Directory is the key-value bucket DIRECTORY. It returns ErrNotCreated when
// there is none. Its Watch and WatchAll take no options and give deleted keys
// too; its PurgeDeletes takes every marker away, whatever its age. What its Update,
// Purge and PurgeDeletes replace or remove is overwritten on the disk, unless the
// bucket was made before that (erasing).
func (b *Bus) Directory(ctx context.Context) (jetstream.KeyValue, error) {
	var kv *bucket
	err := b.permitted(ctx, apiStreamInfo+streamDirectory, func(ctx context.Context) (err error) {
		kv, err = b.bucket(ctx, BucketDirectory, subjectBellDirectory)
		return err
	})
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, fmt.Errorf("open the directory: %w", ErrNotCreated)
	}
	if err != nil {
		return nil, fmt.Errorf("open the directory: %w", err)
	}
	info, err := b.stream(ctx, streamDirectory)
	if err != nil {
		return nil, fmt.Errorf("open the directory: %w", err)
	}
	kv.erases = erasing(info.Config)
	return kv, nil
}

// subscribe calls fn with each message on a goroutine of the client library.
// stop ends that and returns when fn will not be called again.
func (b *Bus) subscribe(subject string, fn func(*nats.Msg)) (stop func(), err error) {
	sub, err := b.nc.Subscribe(subject, fn)
	if err != nil {
		return nil, closedOr(err)
	}
	ended := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(ended) })
	return func() {
		if err := sub.Unsubscribe(); err != nil {
			<-b.closed // the connection ended the subscription, perhaps before it had a handler
			return
		}
		<-ended
	}, nil
}

// credentials reads who we are. The inboxes are put below the user's public key,
// so that a server can permit each user its own inboxes and no other's.
func credentials(path string) ([]nats.Option, error) {
	if path == "" {
		return nil, nil
	}
	seed, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the credentials: %w", err)
	}
	key, err := nkeys.ParseDecoratedNKey(seed)
	clear(seed)
	if err != nil {
		return nil, fmt.Errorf("read the credentials in %s: %w", path, err)
	}
	pub, err := key.PublicKey()
	key.Wipe()
	if err != nil {
		return nil, fmt.Errorf("read the credentials in %s: %w", path, err)
	}
	inboxes := nats.CustomInboxPrefix(inboxPrefix + pub)
	if filepath.Ext(path) == ".creds" {
		return []nats.Option{nats.UserCredentials(path), inboxes}, nil
	}
	opt, err := nats.NkeyOptionFromSeed(path)
	if err != nil {
		return nil, fmt.Errorf("read the credentials in %s: %w", path, err)
	}
	return []nats.Option{opt, inboxes}, nil
}

func connect(ctx context.Context, cfg ConnectConfig, extra []nats.Option) (*Bus, error) {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &Bus{log: log, closed: make(chan struct{})}
	patience := 5 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline))
	}
	if err := ctx.Err(); err != nil || patience <= 0 {
		return nil, fmt.Errorf("connect to the bus: %w", context.Cause(ctx))
	}
	name := cfg.Name
	if name == "" {
		name = "rollbook"
	}
	opts := []nats.Option{
		nats.Name(name),
		nats.Timeout(patience),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(200 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 500*time.Millisecond),
		// A page or command sent late, after its sender has given up, is of no use.
		nats.ReconnectBufSize(-1),
		// A server that comes up with its accounts not yet loaded must not end us.
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ClosedHandler(func(*nats.Conn) { close(b.closed) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("bus connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("bus connection restored", "server", nc.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrSlowConsumer) {
				log.Debug("a follower is behind the live pages and reads them from the book") // see Follow
				return
			}
			if b.refusals.heard(err) {
				return // whoever asked says so
			}
			log.Warn("bus error", "error", err)
		}),
	}
	nc, err := nats.Connect(cfg.URL, append(opts, extra...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", explain(err))
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(apiTimeout))
	if err != nil {
		nc.Close()
		<-b.closed
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	b.nc, b.js = nc, js
	return b, nil
}
