package adapterstest

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/bus"
	"rollbook/engine"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/resources"
	"rollbook/projections/tokens"
)

// deployment is the key of every house: it derives successors of tokens and seals API keys.
var deployment = [32]byte{1}

// Settings say what a house is like. The zero value is ready: one partition, the default policies, nobody in it, and a
// bus that everybody reaches within the process.
type Settings struct {
	// Policies changes the default ones; nil: nothing.
	Policies func(*session.Policies)
	// Partitions of the book, each with its writer. Zero: one.
	Partitions int
	// OverTCP lets the house reach its bus as other processes do, so that [House.StopBus] can be undone.
	OverTCP bool
	// People are in the book and in the directory from the start.
	People []Person
}

// House is a bus, its writers, and pods. Its methods are for the goroutine of the test, but for Now.
type House struct {
	Bus      *bus.Bus // everybody's connection
	People   *People  // the directory of the pods that are not given another
	Policies session.Policies

	t          testing.TB
	dir        string // of the bus
	partitions int
	ahead      atomic.Int64 // of the real time, in nanoseconds
	door       *door        // nil: the bus is reached within the process
	server     *bus.Embedded
	operator   *bus.Submitter
	writers    []func() // stop them
	pods       []*Pod
}

// Pod is a gate before the house's book, with projections of its own.
type Pod struct {
	*adapters.Gate
	Index    *tokens.Index // what it knows of the live sessions
	follower *projections.Follower
}

// NewHouse starts a house that is gone with the test.
func NewHouse(t testing.TB, s Settings) *House {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h := &House{t: t, dir: t.TempDir(), partitions: max(1, s.Partitions), People: NewPeople(), Policies: session.DefaultPolicies()}
	if s.Policies != nil {
		s.Policies(&h.Policies)
	}
	if s.OverTCP {
		h.door = openDoor(t)
	}
	h.start()
	t.Cleanup(h.StopBus)
	var err error
	if s.OverTCP {
		h.Bus, err = bus.Connect(ctx, bus.ConnectConfig{URL: "nats://" + h.door.address(), Creds: filepath.Join(h.dir, "operator.nk"), Log: Discard})
	} else {
		h.Bus, err = h.server.Connect(ctx, "test", Discard)
	}
	Must(t, err)
	t.Cleanup(func() { h.Bus.Close() })
	Must(t, h.Bus.Create(ctx, bus.Layout{Partitions: h.partitions, Replicas: 1}))
	h.operator, err = h.Bus.NewSubmitter(bus.SubmitterConfig{})
	Must(t, err)
	t.Cleanup(h.operator.Close)
	h.StartWriters()
	for _, p := range s.People {
		h.Register(p)
	}
	return h
}

// start starts the bus.
func (h *House) start() {
	h.t.Helper()
	config := bus.EmbeddedConfig{DataDir: h.dir}
	if h.door != nil {
		config.Listen = "127.0.0.1:0"
	}
	var err error
	Eventually(h.t, "the bus has its directory", func() bool {
		h.server, err = bus.StartEmbedded(config)
		return !errors.Is(err, bus.ErrDataDirInUse) // it is tried for 100 ms, which a busy machine may not give it
	})
	Must(h.t, err)
	if h.door != nil {
		h.door.leadTo(h.server.URL())
	}
}

// StopBus takes the bus away from under the writers and the pods. Only with OverTCP can it come back.
func (h *House) StopBus() {
	if h.door != nil {
		h.door.leadTo("")
	}
	h.server.Shutdown()
}

// StartBus brings the bus back, with all that it had. It returns when the house's connection is there again; writers and
// pods notice in their own time.
func (h *House) StartBus() {
	h.t.Helper()
	if h.door == nil {
		h.t.Fatal("a bus that is reached within the process does not come back: set OverTCP")
	}
	h.start()
	Eventually(h.t, "the bus is reached again", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := h.Bus.Open(ctx)
		return err == nil
	})
}

// StartWriters starts the writer of each partition; it is not waited for.
func (h *House) StartWriters() {
	h.t.Helper()
	if h.writers != nil {
		h.t.Fatal("the house has its writers")
	}
	for n := range h.partitions {
		p := bus.Partition(n)
		h.writers = append(h.writers, Runs(h.t, engine.New(engine.Config{
			Partition: p, Book: h.Bus.Book(p), Alone: true, Policies: h.Policies, Now: h.Now, Log: Discard,
			OpenIntake: func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
				intake, err := h.Bus.Intake(ctx, p, epoch, incarnation, after)
				if err != nil {
					return nil, err // and not a nil *bus.Intake in an interface that is not nil
				}
				return intake, nil
			},
		}).Run))
	}
}

// StopWriters stops the writers: what needs the book is then "unavailable", what is known stays known.
func (h *House) StopWriters() {
	for _, stop := range h.writers {
		stop()
	}
	h.writers = nil
}

// Now is the clock of everything in the house. It runs, ahead of the real one by what the test has added.
func (h *House) Now() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) }

// Later moves the clock of everything in the house. A writer that waits for the end of a session looks at it when it next
// gets a command.
func (h *House) Later(d time.Duration) { h.ahead.Add(int64(d)) }

// Pod adds a pod, which has seen the whole book when Pod returns; change may alter its gate's configuration.
func (h *House) Pod(change func(*adapters.Config)) *Pod {
	h.t.Helper()
	index, known := tokens.New(), resources.New()
	config := projections.Config{Models: []projections.Model{index, known}, Staleness: 20 * time.Second, Log: Discard}
	for p := range h.partitions {
		config.Books = append(config.Books, h.Bus.Book(bus.Partition(p)))
	}
	follower := projections.NewFollower(config)
	Runs(h.t, follower.Run)
	submit, err := h.Bus.NewSubmitter(bus.SubmitterConfig{})
	Must(h.t, err)
	h.t.Cleanup(submit.Close)
	cfg := adapters.Config{Submit: submit, Directory: h.People, Sessions: index, Resources: known, Follower: follower, Policies: h.Policies,
		Partitions: h.partitions, DeploymentKey: deployment, Timeout: patience, Now: h.Now, Log: Discard}
	if change != nil {
		change(&cfg)
	}
	p := &Pod{Gate: adapters.NewGate(cfg), Index: index, follower: follower}
	Runs(h.t, p.Run)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	Must(h.t, follower.Barrier(ctx))
	h.pods = append(h.pods, p)
	return p
}

// Register makes a person known to the directory and to the book.
func (h *House) Register(p Person) {
	h.t.Helper()
	h.People.Put(p)
	h.Command(&session.Register{User: p.User, Credential: max(1, p.Credential)})
}

// Command does what an operator does, and ends the test when it is refused.
func (h *House) Command(cmd session.Command) session.Reply {
	h.t.Helper()
	reply := h.Ask(cmd)
	if reply.Refusal != session.Accepted {
		h.t.Fatalf("%s: %s", cmd.Verb(), reply.Refusal)
	}
	return reply
}

// Ask submits an operator's command and gives the reply, whatever it is. Every pod has seen the outcome by then.
func (h *House) Ask(cmd session.Command) session.Reply {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := h.operator.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Partition: bus.PartitionOf(string(userOf(cmd)), h.partitions),
		Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)})
	Must(h.t, err)
	reply, err := session.DecodeReply(answer.Body)
	Must(h.t, err)
	if answer.Position != (bus.Position{}) {
		for _, p := range h.pods {
			Must(h.t, p.follower.Await(ctx, answer.Position))
		}
	}
	return reply
}

// userOf is whom an operator's command is about; nobody for what is about none.
func userOf(cmd session.Command) session.UserID {
	switch c := cmd.(type) {
	case *session.Register:
		return c.User
	case *session.ChangeCredential:
		return c.User
	case *session.Disable:
		return c.User
	case *session.Enable:
		return c.User
	case *session.Unlock:
		return c.User
	case *session.Revoke:
		return c.User
	}
	return ""
}

// Lost is a follower that has lost touch with the book: a pod with it knows nothing for certain.
type Lost struct{}

// Await never has the position.
func (Lost) Await(context.Context, bus.Position) error { return projections.ErrStale }

// Barrier never comes to the end.
func (Lost) Barrier(context.Context) error { return projections.ErrStale }

// Fresh never is.
func (Lost) Fresh() error { return projections.ErrStale }
