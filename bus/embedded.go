package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// What a data directory holds.
const (
	fileLock     = "lock"      // held exclusively while a server runs on the directory; never removed
	fileURL      = "bus.url"   // where that server listens; only worth anything while the lock is held
	fileStore    = "jetstream" // the streams
	fileOperator = "operator.nk"
	fileConsumer = "consumer.nk"
)

// maxPayload bounds one message on the bus, in bytes, headers included.
const maxPayload = 1 << 20

// startPatience is how long a server may take to recover its streams: about
// 1 s a gigabyte of pages.
const startPatience = 2 * time.Minute

// slowStart is when a start that still goes on says so.
const slowStart = 5 * time.Second

// EmbeddedConfig says where the server of this process keeps its streams and
// where it listens. Every append is on disk before it is acknowledged; there is
// no setting for that.
type EmbeddedConfig struct {
	DataDir string       // holds streams, keys and lock; made with mode 0700 when missing; required
	Listen  string       // host:port for other processes, port 0 picks one; "" listens nowhere
	TLS     *tls.Config  // of the listener; nil means that other processes come in the clear
	Log     *slog.Logger // nil means no logging
}

// tlsPatience is how long a client's handshake may take; the server's own 2 s
// are short for a machine at its limit.
const tlsPatience = 10 // seconds

// Embedded is a server with JetStream in this process.
type Embedded struct {
	dir    string
	log    *slog.Logger
	srv    *server.Server
	lock   *flock.Flock
	listen bool

	mu    sync.Mutex // guards buses: Connect and Shutdown may meet
	buses []*Bus     // what Connect gave out, nil after Shutdown
	down  bool
}

// StartEmbedded locks the data directory (ErrDataDirInUse), makes its keys when
// they are missing, starts the server and returns when it serves. It blocks
// while stored streams are recovered.
func StartEmbedded(cfg EmbeddedConfig) (*Embedded, error) {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.DataDir == "" {
		return nil, errors.New("start the embedded bus: no data directory given")
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("start the embedded bus: %w", err)
	}
	lock, err := lockDataDir(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("start the embedded bus: %w", err)
	}
	e := &Embedded{dir: cfg.DataDir, log: log, lock: lock, listen: cfg.Listen != ""}
	if err := e.start(cfg.Listen, cfg.TLS); err != nil {
		e.stop()
		return nil, fmt.Errorf("start the embedded bus: %w", err)
	}
	return e, nil
}

// Connect gives a connection within the process, with all rights.
func (e *Embedded) Connect(ctx context.Context, name string, log *slog.Logger) (*Bus, error) {
	opts, err := credentials(filepath.Join(e.dir, fileOperator))
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded bus: %w", err)
	}
	b, err := connect(ctx, ConnectConfig{Name: name, Log: log}, append(opts, nats.InProcessServer(e.srv)))
	if err != nil {
		return nil, err
	}
	b.embedded = true
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		b.nc.Close()
		<-b.closed
		return nil, fmt.Errorf("connect to the embedded bus: %w", ErrClosed)
	}
	e.buses = append(e.buses, b)
	return b, nil
}

// URL is where other processes connect; "" when the server listens nowhere.
func (e *Embedded) URL() string {
	if !e.listen {
		return ""
	}
	return e.srv.ClientURL()
}

// Shutdown closes the connections that Connect gave out, stops the server and
// waits for both, then gives the data directory free. A second call does nothing.
func (e *Embedded) Shutdown() {
	e.mu.Lock()
	buses := e.buses
	first := !e.down
	e.buses, e.down = nil, true
	e.mu.Unlock()
	if !first {
		return
	}
	for _, b := range buses {
		if err := b.Close(); err != nil {
			e.log.Debug("a connection did not drain", "error", err)
		}
	}
	e.stop()
}

// FindRunning reports where the server that holds dataDir listens: a URL of this
// machine, whose certificate, if it has one, proves nothing more (SameMachine). The lock says
// whether one runs, the file says where; a file left behind by a killed process
// is not believed. ok is false too while a server is only starting, or listens
// nowhere.
func FindRunning(dataDir string) (url string, ok bool) {
	path := filepath.Join(dataDir, fileLock)
	if _, err := os.Stat(path); err != nil {
		return "", false
	}
	lock := flock.New(path)
	free, err := lock.TryRLock()
	if err != nil {
		return "", false
	}
	_ = lock.Close() // gives it back when it was free; nothing was written
	if free {
		return "", false
	}
	text, err := os.ReadFile(filepath.Join(dataDir, fileURL))
	if err != nil {
		return "", false
	}
	url = strings.TrimSpace(string(text))
	return url, url != ""
}

// lockDataDir takes the directory's lock. It tries for a moment, because
// FindRunning holds the lock, shared, for the length of a system call.
func lockDataDir(dir string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(dir, fileLock), flock.SetPermissions(0o600))
	// A number of tries, not a time: on a busy machine the time would pass without one.
	for try := 0; ; try++ {
		ok, err := lock.TryLock()
		switch {
		case ok:
			return lock, nil
		case err != nil:
			_ = lock.Close()
			return nil, fmt.Errorf("lock the data directory: %w", err)
		case try == 20:
			_ = lock.Close()
			return nil, fmt.Errorf("%w: %s", ErrDataDirInUse, dir)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (e *Embedded) start(listen string, secure *tls.Config) error {
	// A killed process leaves its file; from here on it must not be believed,
	// since the lock is held again.
	if err := os.Remove(filepath.Join(e.dir, fileURL)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	operator, err := KeyFile(filepath.Join(e.dir, fileOperator))
	if err != nil {
		return err
	}
	consumer, err := KeyFile(filepath.Join(e.dir, fileConsumer))
	if err != nil {
		return err
	}
	opts, err := serverOptions(e.dir, listen, operator, consumer)
	if err != nil {
		return err
	}
	if secure != nil {
		opts.TLS, opts.TLSConfig, opts.TLSTimeout = true, secure, tlsPatience
		opts.TLSVerify = secure.ClientAuth == tls.RequireAndVerifyClientCert
	}
	if err := e.distrust(StreamSnapshots); err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	srv.SetLoggerV2(newServerLog(e.log), false, false, false)
	e.srv = srv
	slow := time.AfterFunc(slowStart, func() {
		e.log.Info("the bus is still reading what is stored", "dir", e.dir, "so_far", slowStart)
	})
	srv.Start()
	slow.Stop()
	if !srv.ReadyForConnections(startPatience) {
		return fmt.Errorf("the server was not ready within %s", startPatience)
	}
	if !e.listen {
		return nil
	}
	return writeFileWhole(filepath.Join(e.dir, fileURL), []byte(srv.ClientURL()+"\n"))
}

// distrust has the server read the stored messages of a stream with their checksums, and drop from a damaged one on what
// its file holds. After an orderly stop the server believes an index instead, and one flipped bit in the sequence number of
// a message has it, at the first read, count up to that number: for ever, before it serves. This is for what can be lost:
// a book is never cut short to make a start easier.
func (e *Embedded) distrust(stream string) error {
	store := filepath.Join(e.dir, fileStore)
	indexes, err := fs.Glob(os.DirFS(store), "jetstream/*/streams/"+stream+"/msgs/index.db")
	if err != nil {
		return err
	}
	for _, index := range indexes {
		if err := os.Remove(filepath.Join(store, index)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("have %s read anew: %w", stream, err)
		}
	}
	return nil
}

// stop undoes start, however far it came.
func (e *Embedded) stop() {
	if e.listen {
		if err := os.Remove(filepath.Join(e.dir, fileURL)); err != nil && !errors.Is(err, os.ErrNotExist) {
			e.log.Warn("the bus URL file stays behind; it is not believed without a running server", "error", err)
		}
	}
	if e.srv != nil {
		e.srv.Shutdown()
		e.srv.WaitForShutdown()
	}
	if err := e.lock.Close(); err != nil {
		e.log.Warn("the data directory was not unlocked; it is when the process ends", "error", err)
	}
}

// serverOptions are the accounts of embeddedaccounts.go with the rest of the
// server's settings.
func serverOptions(dir, listen, operator, consumer string) (*server.Options, error) {
	opts := &server.Options{}
	if err := opts.ProcessConfigString(accounts(operator, consumer)); err != nil {
		return nil, fmt.Errorf("build the server's accounts: %w", err)
	}
	opts.ServerName = "rollbook"
	opts.JetStream = true
	opts.StoreDir = filepath.Join(dir, fileStore)
	opts.SyncAlways = true
	opts.MaxPayload = maxPayload
	opts.NoSigs = true
	opts.DisableJetStreamBanner = true
	opts.DontListen = listen == ""
	if listen == "" {
		return opts, nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", listen, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: the port is not a number", listen)
	}
	opts.Host, opts.Port = host, int(n)
	if n == 0 {
		opts.Port = server.RANDOM_PORT
	}
	return opts, nil
}
