package directory

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"rollbook/bus"
	"rollbook/engine/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cheap is the least that argon2id can cost.
var cheap = Parameters{Memory: 8, Time: 1, Threads: 1}

const (
	good  = "seventeen tall ships"
	other = "eighteen small boats"
)

// rig is a real embedded bus with the directory's bucket on it.
type rig struct {
	*testing.T
	dir    string
	server *bus.Embedded
	bus    *bus.Bus
	kv     jetstream.KeyValue
	clock  func() time.Time // of the stores; nil: the real one
}

func newRig(t *testing.T) *rig {
	t.Helper()
	t.Parallel()
	r := &rig{T: t, dir: t.TempDir()}
	r.start("")
	must(t, r.bus.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}))
	r.open()
	return r
}

func (r *rig) start(listen string) {
	r.Helper()
	var err error
	r.server, err = bus.StartEmbedded(bus.EmbeddedConfig{DataDir: r.dir, Listen: listen})
	must(r.T, err)
	r.Cleanup(r.server.Shutdown)
	r.bus, err = r.server.Connect(r.Context(), "test", nil)
	must(r.T, err)
}

func (r *rig) open() {
	r.Helper()
	var err error
	r.kv, err = r.bus.Directory(r.Context())
	must(r.T, err)
}

// stream is the stream beneath the bucket.
func (r *rig) stream() jetstream.Stream {
	r.Helper()
	s, err := r.bus.JetStream().Stream(r.Context(), "KV_"+bus.BucketDirectory)
	must(r.T, err)
	return s
}

// store makes a cheap store, on the bucket itself or on what stands in front of it.
func (r *rig) store(kv jetstream.KeyValue) *Store {
	r.Helper()
	s, err := NewStore(kv, StoreConfig{Parameters: cheap, Now: r.clock})
	must(r.T, err)
	return s
}

// add takes the steps of a new user, but for the book.
func add(ctx context.Context, s *Store, password string, names ...string) (Record, error) {
	record := Record{Names: names}
	var err error
	if password != "" {
		if record.Verifier, err = s.Hash(password, names); err != nil {
			return record, err
		}
	}
	if record.User, err = s.Claim(ctx, names); err != nil {
		return record, err
	}
	return s.Create(ctx, record)
}

func (r *rig) add(password string, names ...string) Record {
	r.Helper()
	record, err := add(r.Context(), r.store(r.kv), password, names...)
	must(r.T, err)
	return record
}

// directory runs a cheap directory on the bucket until the test ends, and waits until it is ready.
func (r *rig) directory(kv jetstream.KeyValue) *Directory {
	r.Helper()
	d := New(kv, Config{DeploymentKey: [32]byte{1}, Parameters: cheap}, slog.New(slog.DiscardHandler))
	r.run(d)
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	must(r.T, d.Await(ctx))
	return d
}

func (r *rig) run(d *Directory) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	r.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.Errorf("Run returned %v", err)
		}
	})
}

// remote connects as another process does.
func (r *rig) remote() jetstream.KeyValue {
	r.Helper()
	b, err := bus.Connect(r.Context(), bus.ConnectConfig{URL: r.server.URL(), Creds: filepath.Join(r.dir, "operator.nk")})
	must(r.T, err)
	r.Cleanup(func() { b.Close() })
	kv, err := b.Directory(r.Context())
	must(r.T, err)
	return kv
}

// patience is how long a test waits for what must happen; it is never reached when all is well.
const patience = 30 * time.Second

// soon waits until the condition holds.
func soon(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

func verdict(t *testing.T, d *Directory, name, password string) session.Verdict {
	t.Helper()
	c, err := d.Check(t.Context(), session.Genesis, name, password)
	must(t, err)
	return c.Verdict
}

// finds reports whether exactly that user is found by the name; an empty user: nobody is.
func finds(d *Directory, name string, user session.UserID) bool {
	got, ok := d.Find(name)
	return got == user && ok == (user != "")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error %v, want %v", err, target)
	}
}
