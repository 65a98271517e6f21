package session

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// snapshotOf is a state's snapshot, as its chunks.
func snapshotOf(t testing.TB, s *State) [][]byte {
	t.Helper()
	var chunks [][]byte
	if err := s.Snapshot(func(chunk []byte) error { chunks = append(chunks, bytes.Clone(chunk)); return nil }); err != nil {
		t.Fatal(err)
	}
	return chunks
}

// restored is the state that chunks make.
func restored(policies Policies, chunks ...[]byte) (*State, error) {
	return ReadSnapshot(policies, func(yield func([]byte, error) bool) {
		for _, chunk := range chunks {
			if !yield(chunk, nil) {
				return
			}
		}
	})
}

// TestSnapshotPlusTail: who begins with a snapshot, taken anywhere, and folds the rest, stands where those stand who
// folded everything, decides alike, and has the same snapshot.
func TestSnapshotPlusTail(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.live(w.pick(turns, "snapshot"), func(turn) {})
		prefix, decided := len(w.book), len(w.turns)
		taken := fold(t, narrow(), w.book[:prefix])
		heir, err := restored(narrow(), snapshotOf(t, taken)...)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := pictureOf(w.state).differs(pictureOf(heir)); diff != "" {
			rt.Fatalf("what was restored after %d commands differs:\n%s", decided, diff)
		}
		w.live(turns, func(turn) {})
		for i, old := range w.turns[decided:] {
			events, reply := heir.Decide(old.cmd, old.now)
			if !sameBytes(inOrder(events), inOrder(old.events)) {
				rt.Fatalf("command %d, %s, is decided differently after a restore:\n%v\n%v", decided+i, old.cmd.Verb(), old.events, events)
			}
			for _, e := range old.events {
				heir.Apply(e)
			}
			if len(events) > 0 {
				reply = heir.Recall(old.events)
			}
			if a, b := EncodeReply(reply), EncodeReply(old.reply); !bytes.Equal(a, b) {
				rt.Fatalf("command %d, %s, is answered differently after a restore:\n%x\n%x", decided+i, old.cmd.Verb(), b, a)
			}
		}
		if found := broken(heir); found != "" {
			rt.Fatal(found)
		}
		whole := fold(t, narrow(), w.book)
		if diff := pictureOf(whole).differs(pictureOf(heir)); diff != "" {
			rt.Fatalf("snapshot and tail differ from the whole:\n%s", diff)
		}
		if !slices.EqualFunc(snapshotOf(t, whole), snapshotOf(t, heir), bytes.Equal) {
			rt.Fatal("equal states have different snapshots")
		}
	})
}

// crowded is a state that fills several chunks, with a session that was refreshed thousands of times.
func crowded(sessions int) *State {
	s := NewState(DefaultPolicies())
	for n := range sessions {
		user := UserID(fmt.Sprintf("user-%d", n))
		hash := HashToken(string(user))
		s.Apply(&UserRegistered{Header{begin, user}, 1})
		s.Apply(&SessionStarted{Header: Header{begin, user}, Session: SessionID(hash[:16]), Venue: TraderEvolution, Client: "desk",
			Until: begin + 1e12, Access: hash, Refresh: HashToken("r" + string(user)), Scopes: []string{"read"}})
	}
	first := HashToken("user-0")
	for n := range 3000 {
		next := HashToken(fmt.Sprint("refresh", n))
		s.Apply(&SessionRefreshed{Header: Header{begin + 1, "user-0"}, Session: SessionID(first[:16]), Generation: uint32(n + 2),
			Handle: Handle(next[:16]), Access: next, Refresh: next})
	}
	return s
}

// TestSnapshotChunks: a large state comes in chunks of the promised size, none of which can be missing, stand twice or
// change its place; the last error of emit is given back.
func TestSnapshotChunks(t *testing.T) {
	s := crowded(3000)
	chunks := snapshotOf(t, s)
	if len(chunks) < 3 {
		t.Fatalf("%d chunks: nothing is proved", len(chunks))
	}
	for i, chunk := range chunks {
		if len(chunk) > SnapshotChunk {
			t.Errorf("chunk %d has %d bytes", i, len(chunk))
		}
	}
	got, err := restored(DefaultPolicies(), chunks...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := pictureOf(s).differs(pictureOf(got)); diff != "" {
		t.Fatalf("the state differs:\n%.2000s", diff)
	}
	for i := range chunks {
		missing := slices.Delete(slices.Clone(chunks), i, i+1)
		if _, err := restored(DefaultPolicies(), missing...); !errors.Is(err, ErrUndecodable) {
			t.Errorf("without chunk %d: %v", i, err)
		}
		if _, err := restored(DefaultPolicies(), slices.Insert(slices.Clone(chunks), i, chunks[i])...); !errors.Is(err, ErrUndecodable) {
			t.Errorf("with chunk %d twice: %v", i, err)
		}
	}
	lost := errors.New("lost")
	if _, err := ReadSnapshot(DefaultPolicies(), func(yield func([]byte, error) bool) { yield(nil, lost) }); !errors.Is(err, lost) {
		t.Errorf("a chunk was lost, and what is said is: %v", err)
	}
	full, n := errors.New("full"), 0
	err = s.Snapshot(func([]byte) error {
		if n++; n == 2 {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || n != 2 {
		t.Errorf("emit failed once, was called %d times, and Snapshot says: %v", n, err)
	}
}

// lively is a state with something in every place, by events alone.
func lively() *State {
	s := NewState(DefaultPolicies())
	at := func(n Instant, user UserID) Header { return Header{begin + n, user} }
	hash := func(text string) TokenHash { return HashToken(text) }
	for _, e := range []Event{
		&UserRegistered{at(0, "alice"), 3},
		&UserRegistered{at(0, "bob"), 1},
		&UserDisabled{at(1, "bob")},
		&LoginRejected{Header: at(2, "decoy-1"), Refusal: WrongCredentials, Verdict: NoSuchUser, Failures: 7},
		&UserLocked{Header: at(2, "decoy-1"), Until: begin + 1e9, Failures: 7},
		&LoginRejected{Header: at(3, "alice"), Refusal: TooManySessions, Verdict: Matched},
		&SessionStarted{Header: at(4, "alice"), Session: SessionID{1}, Venue: TraderEvolution, Client: "desk", Bound: true, Pod: PodID{4}, Credential: 3,
			Until: begin + 9e12, Idle: 1e12, Access: hash("a1"), AccessUntil: begin + 5e11, AccessIdle: 2e11, Refresh: hash("r1"),
			RefreshUntil: begin + 6e12, Failed: 2, Rejected: 1, PreviousLogin: begin - 5, Scopes: []string{"read", "trade"}, Nonce: hash("n1")},
		&SessionStarted{Header: at(5, "alice"), Session: SessionID{2}, Venue: Genesis, Until: begin + 8e12, Access: hash("a2")},
		&LoginRejected{Header: at(5, "alice"), Refusal: Disabled, Verdict: Matched},
	} {
		s.Apply(e)
	}
	for n := range Instant(3) {
		name := fmt.Sprint("r1-", n)
		s.Apply(&SessionRefreshed{Header: at(6+n, "alice"), Session: SessionID{1}, Generation: uint32(2 + n), Handle: Handle{9, byte(n)},
			Access: hash("a" + name), AccessUntil: begin + 7e11, Refresh: hash(name), RefreshUntil: begin + 6e12, SpentUntil: begin + 1e10})
	}
	for _, e := range []Event{
		&SessionStarted{Header: at(10, "alice"), Session: SessionID{3}, Venue: Zenith, Until: begin + 8e12, Access: hash("a3")},
		&SessionEnded{at(11, "alice"), SessionID{3}, LoggedOut},
		&OneTimeIssued{Header: at(12, "alice"), Venue: TraderEvolution, Session: SessionID{1}, Token: hash("o1"), Until: begin + 3e10},
		&OneTimeIssued{Header: at(12, "alice"), Venue: Genesis, Token: hash("o2"), Until: begin + 3e10},
		&OneTimeRedeemed{at(13, "alice"), Genesis, hash("o2")},
		&ResourceDefined{at(14, ""), Resource{Name: "Z", Kind: DataServer, Description: "last", Fields: []Field{{Name: "F", Type: "ENUM",
			ValidValues: []string{"x"}, Optional: true}}}},
		&ResourceDefined{at(14, ""), Resource{Name: "A", Kind: RequestServer, Request: []Field{{Name: "Q", Type: "STRING"}}}},
		&LifetimesSet{at(15, ""), Zenith, Lifetimes{Access: 1e10, Refresh: 2e10, OneTime: 3e9}},
	} {
		s.Apply(e)
	}
	return s
}

// TestSnapshotGoldens holds the stored form. There is one file for every version that was ever written. That of the
// version of today is what is written today, and reads as what was written; the others are refused as another version's,
// and never misread. A form that has changed needs another version: with -update a missing file is made, and none changed.
func TestSnapshotGoldens(t *testing.T) {
	const dir = "../../testdata/wire/snapshot"
	want := lively()
	written := bytes.Join(snapshotOf(t, want), nil)
	today := filepath.Join(dir, fmt.Sprintf("version-%d.hex", SnapshotVersion))
	if _, err := os.Stat(today); *update && errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(today, []byte(hex.EncodeToString(written)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.hex"))
	if err != nil || !slices.Contains(files, today) {
		t.Fatalf("%s does not exist: run make golden (%v)", today, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		got, err := restored(DefaultPolicies(), data)
		if file != today {
			if !errors.Is(err, ErrFromTheFuture) {
				t.Errorf("%s is of another version, and reads as: %v", file, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if !bytes.Equal(data, written) {
			t.Errorf("what is written has changed: raise SnapshotVersion, and make a golden of it\n got %x\nwant %x", written, data)
		}
		if diff := pictureOf(want).differs(pictureOf(got)); diff != "" {
			t.Errorf("%s reads as something else:\n%s", file, diff)
		}
	}
}

// TestSnapshotOfTheFuture: another version and an unknown kind of record are told apart from damage.
func TestSnapshotOfTheFuture(t *testing.T) {
	record := func(kind byte, fields ...any) []byte {
		data := build(t, fields)
		return append([]byte{kind, byte(len(data))}, data...)
	}
	head, end := record(recordHead, SnapshotVersion, 5), record(recordEnd, 1)
	if s, err := restored(DefaultPolicies(), head, end); err != nil || s.Clock() != 5 {
		t.Fatalf("the empty snapshot: %v", err)
	}
	for name, chunks := range map[string][][]byte{
		"version":             {record(recordHead, SnapshotVersion+1, 5), end},
		"version with fields": {record(recordHead, SnapshotVersion+1, 5, "more"), end},
		"older version":       {record(recordHead, 0, 5), end},
		"kind":                {head, record(recordEnd+1, 1), end},
	} {
		if _, err := restored(DefaultPolicies(), chunks...); !errors.Is(err, ErrFromTheFuture) || errors.Is(err, ErrUndecodable) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	for name, chunks := range map[string][][]byte{
		"nothing":            nil,
		"no end":             {head},
		"a wrong count":      {head, record(recordEnd, 2)},
		"more after the end": {head, end, record(recordStranger, "a", 1)},
		"no head":            {record(recordStranger, "a", 1), end},
		"a field too few":    {head, record(recordStranger, "a"), record(recordEnd, 2)},
		"a field too many":   {head, record(recordStranger, "a", 1, 2), record(recordEnd, 2)},
		"spent of nobody":    {head, record(recordSpent, []any{}), record(recordEnd, 2)},
		"no record":          {{}, {0x80}},
		"a cut":              {head[:len(head)-1]},
	} {
		if _, err := restored(DefaultPolicies(), chunks...); !errors.Is(err, ErrUndecodable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzSnapshot: whatever the bytes, the reader refuses them or makes a state that is whole, decides without breaking, and
// has a snapshot that reads as the same.
func FuzzSnapshot(f *testing.F) {
	for _, s := range []*State{NewState(DefaultPolicies()), lively()} {
		f.Add(bytes.Join(snapshotOf(f, s), nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := restored(DefaultPolicies(), data)
		if err != nil {
			if errors.Is(err, ErrUndecodable) == errors.Is(err, ErrFromTheFuture) {
				t.Fatalf("neither undecodable nor of another version: %v", err)
			}
			return
		}
		if found := broken(s); found != "" {
			t.Fatal(found)
		}
		again, err := restored(DefaultPolicies(), snapshotOf(t, s)...)
		if err != nil {
			t.Fatalf("what was accepted does not survive: %v", err)
		}
		if diff := pictureOf(s).differs(pictureOf(again)); diff != "" {
			t.Fatalf("what was accepted changes on the way:\n%s", diff)
		}
		s.Apply(&SessionStarted{Header: Header{begin, "alice"}, Session: SessionID{7}, Until: begin + 1})
		s.Apply(&SessionsRevoked{Header: Header{begin + 2, ""}})
		s.Decide(&Expire{}, max(s.Clock(), begin))
		if found := broken(s); found != "" {
			t.Fatal(found)
		}
	})
}

func BenchmarkSnapshot(b *testing.B) {
	const sessions = 100_000
	s := crowded(sessions)
	var chunks [][]byte
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			chunks = snapshotOf(b, s)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/sessions, "ns/session")
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := restored(DefaultPolicies(), chunks...); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/sessions, "ns/session")
	})
}
