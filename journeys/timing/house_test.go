package timing

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"rollbook/adapters"
	"rollbook/adapters/advauth"
	"rollbook/adapters/genesis"
	"rollbook/adapters/nebula"
	"rollbook/adapters/traderevolution"
	"rollbook/adapters/zenith"
	"rollbook/bus"
	"rollbook/engine"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/directory"
	"rollbook/projections/resources"
	"rollbook/projections/tokens"
)

var discard = slog.New(slog.DiscardHandler)

// design is how a house is built. The zero value of the plants is a house in order.
type design struct {
	names int                  // of each class
	hash  directory.Parameters // of verifiers and of the dummy
	// The plants spoil what is asked, to see that it shows.
	directory func(adapters.Directory) adapters.Directory
	submit    func(adapters.Submitter) adapters.Submitter
}

// house is the five venues before one gate, with the real directory, writer and bus.
type house struct {
	t              *testing.T
	bus            *bus.Bus
	known, unknown []string
	urls           map[session.Venue]string
	failed         atomic.Pointer[failure] // nil: all parts run
}

var key = [32]byte{1, 2, 3}

// build starts a house; it ends with the test.
func build(t *testing.T, d design) *house {
	t.Helper()
	ctx := t.Context()
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: t.TempDir()})
	must(t, err)
	t.Cleanup(server.Shutdown)
	b, err := server.Connect(ctx, "timing", discard)
	must(t, err)
	t.Cleanup(func() { b.Close() })
	must(t, b.Create(ctx, bus.Layout{Partitions: 1, Replicas: 1}))
	h := &house{t: t, bus: b, urls: map[session.Venue]string{}}
	policies := session.DefaultPolicies()
	policies.Lockout.Threshold, policies.Lockout.Hard = 1<<30, 1<<31 // locks are another test's
	h.runs("the writer", engine.New(engine.Config{Book: b.Book(0), Alone: true, Policies: policies, Log: discard,
		OpenIntake: func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
			return b.Intake(ctx, 0, epoch, incarnation, after)
		}}).Run)
	submit, err := b.NewSubmitter(bus.SubmitterConfig{})
	must(t, err)
	t.Cleanup(func() { submit.Close() })
	kv, err := b.Directory(ctx)
	must(t, err)
	store, err := directory.NewStore(kv, directory.StoreConfig{Parameters: d.hash, DeploymentKey: key})
	must(t, err)
	h.populate(d, store, submit)

	people := directory.New(kv, directory.Config{DeploymentKey: key, Parameters: d.hash}, discard)
	h.runs("the directory", people.Run)
	index, known := tokens.New(), resources.New()
	follower := projections.NewFollower(projections.Config{Books: []projections.Book{b.Book(0)}, Models: []projections.Model{index, known},
		Staleness: time.Minute, Log: discard})
	h.runs("the follower", follower.Run)
	config := adapters.Config{Submit: submit, Directory: people, Sessions: index, Resources: known, Follower: follower,
		Policies: policies, Partitions: 1, DeploymentKey: key, Timeout: time.Minute, Log: discard}
	if d.directory != nil {
		config.Directory = d.directory(config.Directory)
	}
	if d.submit != nil {
		config.Submit = d.submit(config.Submit)
	}
	gate := adapters.NewGate(config)
	h.runs("the gate", gate.Run)
	h.await(people.Await)
	h.await(people.Current)
	h.await(follower.Barrier)
	h.open(gate)
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// runs runs a part of the house until the end of the test. What ends before is noted: then nobody will answer.
func (h *house) runs(what string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); ctx.Err() == nil {
			h.failed.CompareAndSwap(nil, &failure{what, err})
		}
	}()
	h.t.Cleanup(func() { cancel(); <-done })
}

// await asks again until nothing is in the way: a busy machine takes longer than a part waits by itself.
func (h *house) await(ask func(context.Context) error) {
	h.t.Helper()
	for again := true; again; {
		ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Second)
		again = ask(ctx) != nil
		cancel()
		h.stands()
	}
}

// stands fails the test when a part of the house has ended.
func (h *house) stands() {
	h.t.Helper()
	if gone := h.failed.Load(); gone != nil {
		h.t.Fatalf("%s has ended: %v", gone.what, gone.err)
	}
}

// failure is a part that has ended by itself.
type failure struct {
	what string
	err  error
}

// password is that of all users, and right is nowhere: all that is presented is wrong.
const password = "the right password of everybody"

// populate makes users with a password and API keys, and as many names that nobody has. The names of both are drawn
// alike, so that nothing in a name tells its class.
func (h *house) populate(d design, store *directory.Store, submit *bus.Submitter) {
	h.t.Helper()
	draw := func() string { return strings.ToLower(rand.Text())[:16] }
	g, ctx := errgroup.WithContext(h.t.Context())
	g.SetLimit(8)
	h.known = make([]string, d.names)
	for i := range h.known {
		h.unknown = append(h.unknown, draw())
		g.Go(func() (err error) {
			for range 10 { // the disk of a busy machine may take longer than a write is waited for
				h.known[i] = draw()
				if err = addUser(ctx, store, submit, h.known[i]); err == nil {
					break
				}
			}
			return err
		})
	}
	must(h.t, g.Wait())
}

func addUser(ctx context.Context, store *directory.Store, submit *bus.Submitter, name string) error {
	verifier, err := store.Hash(password, []string{name})
	if err != nil {
		return err
	}
	user, err := store.Claim(ctx, []string{name})
	if err != nil {
		return err
	}
	r, err := store.Create(ctx, directory.Record{User: user, Names: []string{name}, Verifier: verifier})
	if err != nil {
		return err
	}
	for _, venue := range []session.Venue{session.AdvAuth, session.Nebula} {
		if r.Credential, err = store.SetKey(ctx, user, venue, []byte(rand.Text())[:16]); err != nil {
			return err
		}
	}
	cmd := &session.Register{User: user, Credential: r.Credential}
	_, err = submit.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)})
	return err
}

// plenty stands for limits that are not this test's subject, and aMinute for patience: a slow machine must not show.
const (
	plenty  = 1 << 20
	aMinute = time.Minute
)

// open serves the venues on loopback ports.
func (h *house) open(gate *adapters.Gate) {
	h.t.Helper()
	keys, err := h.bus.Keys(h.t.Context())
	must(h.t, err)
	g := genesis.New(genesis.Config{MessageRate: plenty, CallTimeout: aMinute}, gate, discard)
	z := zenith.New(zenith.Config{MessageRate: plenty, CallTimeout: aMinute}, gate, discard)
	n := nebula.New(nebula.Config{MessageRate: plenty, CallTimeout: aMinute}, gate, keys, discard)
	h.runs("the keys", n.Run)
	h.serve(session.Genesis, g, g.Shutdown)
	h.serve(session.TraderEvolution, traderevolution.New(traderevolution.Config{CallRate: -1, CallTimeout: aMinute}, gate, discard), nil)
	h.serve(session.AdvAuth, advauth.New(advauth.Config{ChallengeKey: key, LoginRate: plenty, CallTimeout: aMinute}, gate, discard), nil)
	h.serve(session.Zenith, z, z.Shutdown)
	h.serve(session.Nebula, n, n.Shutdown)
}

func (h *house) serve(venue session.Venue, handler http.Handler, shutdown func(context.Context) error) {
	server := httptest.NewServer(handler)
	h.urls[venue] = server.URL
	h.t.Cleanup(func() {
		if shutdown != nil {
			ctx, cancel := context.WithTimeout(context.Background(), aMinute)
			defer cancel()
			must(h.t, shutdown(ctx))
		}
		server.Close()
	})
}

// refusals counts the refused logins that are in the book, by whether somebody has the name.
func (h *house) refusals() (known, unknown int) {
	h.t.Helper()
	ctx := h.t.Context()
	book := h.bus.Book(0)
	end, err := book.End(ctx)
	must(h.t, err)
	must(h.t, book.Read(ctx, 0, end, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		if err != nil {
			return err
		}
		for _, data := range page.Events {
			event, err := session.DecodeEvent(data)
			if err != nil {
				return err
			}
			if e, ok := event.(*session.LoginRejected); ok && e.Verdict == session.NoSuchUser {
				unknown++
			} else if ok {
				known++
			}
		}
		return nil
	}))
	return known, unknown
}
