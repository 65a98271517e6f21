// Package adapters is the gate that every venue's protocol goes through to the book and back.
//
// A protocol adapter decodes its venue's request and calls the gate; the gate checks what is presented, mints ids and
// tokens, submits a command to the partition that owns the user, awaits the outcome, waits until this pod's own
// projection has seen it (read your writes), and hands back what the adapter renders. A token that is only to be
// checked never leaves the pod: it is hashed and looked up.
//
// Where a client is (client.go, and proxies.go behind proxies) comes with a login and a refresh, and is sealed by the gate.
//
// On the way to the gate the venues share what is the same for all of them, each piece a type of its own: the bounds of an
// HTTP exchange (exchange.go) and of a JSON object (object.go, depth.go), who may call from a browser (origins.go), the
// sockets of a pod (sockets.go) and the sessions that linger when they are gone (linger.go), what is counted (replies.go)
// and what is logged while the book is away (outage.go). What a venue says, and where it differs, stays with the venue.
//
// Invariants:
//   - Passwords and tokens stay here: a command carries a verdict and hashes. An address, an agent and a presented name
//     leave it sealed.
//   - A refusal ([Refused]) is the domain's answer; an error means "not known", and is never rendered as a refusal.
//   - A token that this pod does not know is refused only after the pod has seen the book's end as of the question.
//   - An unknown name costs what a wrong password costs: the same hash, the same command, the same wait on the disk.
//   - A pod that has lost touch with the book stops saying yes.
package adapters

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// ErrUnavailable says that the outcome is not known: the bus is away, the writer did not answer in time, or this pod
// is too far behind. The venue's "system unavailable" answers it; never "invalid".
var ErrUnavailable = errors.New("the book cannot be reached")

// ErrBusy says that too many password checks are waiting. Nothing was checked or counted: try again later.
var ErrBusy = errors.New("too many logins at once")

// Submitter sends a command to its partition's writer and awaits the outcome: *[bus.Submitter].
type Submitter interface {
	Submit(ctx context.Context, cmd bus.Command) (bus.Reply, error)
}

// Directory says whose a name and a password are.
type Directory interface {
	// Check judges a password. It takes as long for a name nobody has; the credential then names a decoy.
	Check(ctx context.Context, venue session.Venue, name, password string) (session.Credential, error)
	// Find is the user who logs in by that name, compared as the directory compares names.
	Find(name string) (session.UserID, bool)
	// Name is the name that the user logs in by.
	Name(user session.UserID) (string, bool)
	// Current returns when the directory knows all that was in it when it was called. Check does that by itself.
	Current(ctx context.Context) error
	// Doubt is why nobody can tell whose the name is, if so: what says it cannot be read. Check says that by itself.
	Doubt(name string) error
	// Generation is that of the user's credential; not ok when the user may not use the venue.
	Generation(user session.UserID, venue session.Venue) (generation uint64, ok bool)
	// Profile is what a venue may show of the user, and may grant.
	Profile(user session.UserID) (session.Profile, bool)
	// Decoy is the user that a name nobody has is counted under.
	Decoy(name string) session.UserID
	// Key is the API key of a user, unsealed, and its generation; not ok when the user has none or may not use the venue.
	// It takes as long for a decoy. The key stays in this pod.
	Key(user session.UserID, venue session.Venue) (key []byte, generation uint64, ok bool)
	// Seal seals where a client was, for what the book keeps of a user. It takes as long for a decoy, and gives as much:
	// bytes that nobody can open.
	Seal(user session.UserID, o session.Origin) []byte
}

// Sessions is this pod's view of the live sessions. Its methods answer from memory and are safe for concurrent use.
type Sessions interface {
	// Check finds the live session of an access token, whatever its deadline: the hot path.
	Check(hash session.TokenHash) (session.Live, bool)
	// ByID finds a live session.
	ByID(id session.SessionID) (session.Session, bool)
	// ByToken finds the session that any token belongs to, whatever its deadline; NoToken when there is none.
	ByToken(hash session.TokenHash) (session.Session, session.TokenKind)
	// ByHandle finds a session by the id its venue shows. A session that ended lately is found too: with its ID, User
	// and Venue alone.
	ByHandle(handle session.Handle) (session.Session, bool)
	// ByUser lists a user's live sessions, the oldest first.
	ByUser(user session.UserID) []session.Session
	// OneTime is whom a one-time token was issued for, as long as it is not redeemed.
	OneTime(hash session.TokenHash) (session.UserID, bool)
	// Watch gives a channel that is closed when the session ends: at once, when it is neither live nor expected. stop
	// releases it.
	Watch(id session.SessionID) (ended <-chan struct{}, stop func())
	// Expect says that the session was started at a position that may not have been seen here yet: until then it has
	// not ended.
	Expect(id session.SessionID, at bus.Position)
}

// Resources is this pod's view of what can be asked for.
type Resources interface {
	// All lists the resources in the order in which they were first defined.
	All() []session.Resource
	Named(name session.ResourceName) (session.Resource, bool)
}

// Follower is the loop that keeps this pod's view up to date.
type Follower interface {
	// Await returns when the view includes the position.
	Await(ctx context.Context, at bus.Position) error
	// Barrier returns when the view includes all that was in the book when it was called.
	Barrier(ctx context.Context) error
	// Fresh is an error when the pod has not heard from the book for longer than its staleness limit.
	Fresh() error
}

// Config is what a gate stands on. All fields but the ones with a zero value below are required.
type Config struct {
	Submit     Submitter
	Directory  Directory
	Sessions   Sessions
	Resources  Resources
	Follower   Follower
	Policies   session.Policies
	Partitions int
	// DeploymentKey derives successors of rotated tokens; the same on all pods.
	DeploymentKey [32]byte
	// Checks is how many passwords are hashed at the same time. Zero: the number of CPUs.
	Checks int
	// Queue is how many logins may wait for their hash; more are refused with [ErrBusy]. Zero: 64 for each check.
	Queue int
	// Pod names this life of the pod. Zero: a new one.
	Pod session.PodID
	// Announce says that the pod lives: what it does not say for the time of a lease is taken for its death, and its
	// clients' bound sessions end. Nil: nobody is told.
	Announce func(session.PodID) error
	// Timeout bounds how long a command's outcome is awaited. Zero: 5 s.
	Timeout time.Duration
	// Now is the pod's clock. Nil: time.Now.
	Now func() time.Time
	// Trace notes commands in the traces of their requests. Nil: nothing is traced.
	Trace Tracer
	// Metrics is what is measured. Nil: metrics that nobody reads.
	Metrics *Metrics
	Log     *slog.Logger
}

// Gate serves every protocol adapter of a pod. Its methods are safe for concurrent use.
type Gate struct {
	cfg    Config
	checks chan struct{} // a slot for each hash that runs
	queue  chan struct{} // a slot for each login that runs or waits

	touches chan use

	mu      sync.Mutex
	pending map[session.SessionID]struct{} // guarded by mu: sessions whose use is being recorded
}

// NewGate makes a gate; [Gate.Run] must run beside it.
func NewGate(cfg Config) *Gate {
	if cfg.Checks <= 0 {
		cfg.Checks = runtime.GOMAXPROCS(0)
	}
	if cfg.Queue <= 0 {
		cfg.Queue = 64 * cfg.Checks
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	if cfg.Pod == (session.PodID{}) {
		_, _ = rand.Read(cfg.Pod[:]) // never fails
	}
	return &Gate{
		cfg: cfg, checks: make(chan struct{}, cfg.Checks), queue: make(chan struct{}, cfg.Queue+cfg.Checks),
		touches: make(chan use, 4096), pending: make(map[session.SessionID]struct{}),
	}
}

// Refused is the domain's "no" and what the venue may want to tell with it. The zero value means accepted.
type Refused struct {
	Code session.Refusal
	// RetryAt is, with Locked, when the account opens again; [session.Forever]: not by itself.
	RetryAt session.Instant
	// Sessions lists, with TooManySessions, the sessions that stand in the way.
	Sessions []session.Session
}

// No reports whether there is a refusal.
func (r Refused) No() bool { return r.Code != session.Accepted }

// Grant is what a client gets: its session and the clear tokens, which exist nowhere else.
type Grant struct {
	Session session.Session
	Access  string
	Refresh string // empty: the session cannot be refreshed
	Name    string // the name the user logs in by
}

func (g *Gate) now() session.Instant { return session.At(g.cfg.Now()) }

// submit sends a command and decodes the reply. Whatever keeps the outcome from being known becomes ErrUnavailable.
func (g *Gate) submit(ctx context.Context, user session.UserID, cmd session.Command) (session.Reply, error) {
	return g.submitTo(ctx, bus.PartitionOf(string(user), g.cfg.Partitions), cmd)
}

func (g *Gate) submitTo(ctx context.Context, p bus.Partition, cmd session.Command) (session.Reply, error) {
	reply, _, err := g.ask(ctx, p, cmd)
	return reply, err
}

// exchange sends a command, awaits its outcome, and then that this pod has seen it. [Gate.ask] is what others call.
func (g *Gate) exchange(ctx context.Context, p bus.Partition, cmd session.Command, travels bus.TraceContext) (session.Reply, bus.Position, error) {
	answer, err := g.cfg.Submit.Submit(ctx, bus.Command{
		ID: bus.NewCommandID(), Partition: p, Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd), Trace: travels,
	})
	if err != nil {
		return session.Reply{}, bus.Position{}, fmt.Errorf("%w: %s: %w", ErrUnavailable, cmd.Verb(), err)
	}
	reply, err := session.DecodeReply(answer.Body)
	if err != nil {
		return session.Reply{}, bus.Position{}, fmt.Errorf("%w: %s: %w", ErrUnavailable, cmd.Verb(), err)
	}
	if answer.Position != (bus.Position{}) && !session.Seeded("own writes are not awaited") {
		// The outcome is on disk. If this pod cannot follow in time it answers all the same: what it then does not
		// know it will not call invalid.
		if err := g.await(ctx, answer.Position); err != nil {
			g.cfg.Log.Warn("answering before this pod has seen its own write", "command", cmd.Verb(), "position", answer.Position, "err", err)
		}
	}
	return reply, answer.Position, nil
}

// unavailable marks a failure of the read side.
func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
