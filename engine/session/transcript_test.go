package session

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

var update = flag.Bool("update", false, "rewrite the transcripts and extend the goldens")

// TestMain gives the transcript runner's own rewrite flag the name the whole project uses.
func TestMain(m *testing.M) {
	flag.Parse()
	if *update {
		if err := flag.Set("rewrite", "true"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

const transcripts = "../../testdata/engine"

// TestTranscripts runs every script under testdata/engine and compares what happened with what is written there.
// The language is explained in its README.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob(transcripts + "/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcript found in %s: %v", transcripts, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			s := newScript()
			datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
				out, err := s.run(d)
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				if len(s.left) > 0 {
					d.Fatalf(t, "nobody reads the arguments %v", s.left)
				}
				return out
			})
		})
	}
}

// begin is when every transcript starts.
const begin = Instant(1_800_000_000_000_000_000)

// script is one transcript's run.
type script struct {
	policies Policies
	state    *State
	book     [][]byte
	now      Instant
	names    names
	left     map[string][]string // the directive's arguments that nobody has read yet
	err      error               // the first argument that could not be read
}

func newScript() *script {
	policies := DefaultPolicies()
	return &script{policies: policies, state: NewState(policies), now: begin, names: newNames()}
}

// run executes one line of the script.
func (s *script) run(d *datadriven.TestData) (string, error) {
	s.left, s.err = make(map[string][]string), nil
	var first string
	for i, arg := range d.CmdArgs {
		if i == 0 && len(arg.Vals) == 0 {
			first = arg.Key
			continue
		}
		s.left[arg.Key] = arg.Vals
	}
	if s.has("at") {
		at := s.instant("at")
		if at < s.now && s.err == nil {
			return "", fmt.Errorf("the clock stands at %s already", s.names.instant(s.now))
		}
		s.now = at
	}
	out, done := s.look(d.Cmd, first)
	if !done {
		cmd := s.command(d.Cmd, first)
		if cmd == nil {
			return "", fmt.Errorf("there is no command %q", d.Cmd)
		}
		if s.err == nil {
			out, s.err = s.decide(cmd)
		}
	}
	return out, s.err
}

// look answers the directives that are not commands.
func (s *script) look(directive, first string) (string, bool) {
	switch directive {
	case "policy":
		venue := s.venue(first)
		s.policies.Venues[venue] = s.policy(s.policies.Venues[venue])
		s.reload()
		return fmt.Sprintf("replayed %d events", len(s.book)), true
	case "lockout":
		l := &s.policies.Lockout
		l.Threshold, l.Hard = uint32(s.number("threshold", int(l.Threshold))), uint32(s.number("hard", int(l.Hard)))
		l.FirstDelay, l.MaxDelay = s.duration("first-delay", l.FirstDelay), s.duration("max-delay", l.MaxDelay)
		l.Forget = s.duration("forget", l.Forget)
		s.reload()
		return fmt.Sprintf("replayed %d events", len(s.book)), true
	case "user":
		standing, known := s.state.User(UserID(first))
		if !known {
			return "not registered", true
		}
		return "user" + s.names.fields(standing), true
	case "session":
		x, live := s.state.Session(s.names.session(first))
		if !live {
			return "no live session", true
		}
		return fmt.Sprintf("session%s\ngood until %s, access until %s, refresh until %s", s.names.fields(x),
			s.names.instant(x.Deadline()), s.names.instant(x.AccessDeadline()), s.names.instant(x.RefreshDeadline())), true
	case "live":
		var lines []string
		s.state.EachSession(func(x Session) {
			lines = append(lines, fmt.Sprintf("%s of %s at %s", s.names.of(x.ID[:]), x.User, x.Venue))
		})
		slices.Sort(lines)
		return fmt.Sprintf("%d live, next deadline %s\n%s", s.state.Sessions(), s.names.instant(s.state.NextDeadline()),
			strings.Join(lines, "\n")), true
	case "resources":
		var lines []string
		s.state.EachResource(func(r Resource) { lines = append(lines, "resource"+s.names.fields(r)) })
		slices.Sort(lines)
		return strings.Join(lines, "\n"), true
	}
	return "", false
}

// decide gives the command to the state as the writer does, over the wire both ways, and says what happened.
func (s *script) decide(cmd Command) (string, error) {
	if cmd.Verb() != VerbExpire {
		travelled, err := DecodeCommand(cmd.Verb(), EncodeCommand(cmd))
		if err != nil {
			return "", err
		}
		cmd = travelled
	}
	events, reply := s.state.Decide(cmd, s.now)
	var out strings.Builder
	for _, e := range events {
		fmt.Fprintln(&out, s.names.event(e))
		s.book = append(s.book, AppendEvent(nil, e))
		s.state.Apply(e)
	}
	if len(events) > 0 {
		reply = s.state.Recall(events)
	} else if reply.Refusal == Accepted {
		fmt.Fprintln(&out, "nothing to do")
	}
	fmt.Fprint(&out, s.names.reply(reply, len(events) > 0))
	return out.String(), nil
}

// reload folds the book again, under the policies of now.
func (s *script) reload() {
	if err := s.policies.Validate(); err != nil && s.err == nil {
		s.err = err
	}
	s.state = NewState(s.policies)
	for _, stored := range s.book {
		e, err := DecodeEvent(stored)
		if err != nil {
			s.err = err
			return
		}
		s.state.Apply(e)
	}
}

// policy changes what the arguments name.
func (s *script) policy(p Policy) Policy {
	for name, d := range map[string]*time.Duration{"absolute": &p.Absolute, "idle": &p.Idle, "access": &p.AccessLifetime,
		"access-idle": &p.AccessIdle, "refresh": &p.RefreshLifetime, "grace": &p.Grace, "one-time": &p.OneTimeLifetime} {
		*d = s.duration(name, *d)
	}
	for name, b := range map[string]*bool{"refreshable": &p.Refreshable, "rotate": &p.Rotate, "evict": &p.EvictOldest} {
		if s.has(name) {
			*b = s.text(name, "") == "yes"
		}
	}
	p.MaxSessions = s.number("sessions", p.MaxSessions)
	p.OneTimeTokens = s.number("one-time-tokens", p.OneTimeTokens)
	return p
}
