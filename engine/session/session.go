// Package session is the language of the session engine and its decision core.
//
// A command (Login, Refresh, Logout, Verify, and the operator's) asks; [State.Decide] answers with events, or with a
// refusal; [State.Apply] folds an event into the state. The codec turns commands, events and replies into bytes that
// decode for ever, and a whole state into a snapshot, which spares a fold and may be thrown away.
//
// Invariants:
//   - Decide and Apply are pure and total: no clock, no randomness, no I/O. Ids and token hashes are minted before and
//     passed in; "now" is an argument.
//   - What Apply does depends on the event alone, never on the policy: deadlines are facts in the events, so a replay
//     under another policy gives the same state.
//   - A secret never enters this package. It knows SHA-256 hashes of tokens, and nothing of passwords but a verdict.
//   - A session owns all its tokens: when it ends they all end.
//   - A deadline is the first instant at which the answer is no: something is good while now < deadline.
package session

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"
)

// Venue is one of the five protocols that sessions are opened through, or the operator's own door.
type Venue uint8

// The venues. The numbers are stored in the book and never change meaning.
const (
	NoVenue         Venue = 0
	Genesis         Venue = 1
	TraderEvolution Venue = 2
	AdvAuth         Venue = 3
	Zenith          Venue = 4
	Nebula          Venue = 5
)

var venueNames = [...]string{"", "genesis", "traderevolution", "advauth", "zenith", "nebula"}

// String is the venue's name as it stands in configuration, logs and the feed.
func (v Venue) String() string {
	if int(v) < len(venueNames) {
		return venueNames[v]
	}
	return fmt.Sprintf("venue-%d", uint8(v))
}

// ParseVenue is the inverse of [Venue.String] for the five venues.
func ParseVenue(name string) (Venue, error) {
	for v, n := range venueNames {
		if n == name && v != 0 {
			return Venue(v), nil
		}
	}
	return NoVenue, fmt.Errorf("no venue is called %q (one of genesis, traderevolution, advauth, zenith, nebula)", name)
}

// UserID names a user in the book: opaque, stable, without personal data, and safe as a token of a bus subject
// (1 to 64 characters of A-Z a-z 0-9 - _). Login names live in the directory, where they can be erased.
type UserID string

// Valid reports whether the id has the documented form.
func (u UserID) Valid() bool {
	if len(u) == 0 || len(u) > 64 {
		return false
	}
	for i := range len(u) {
		switch c := u[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// SessionID names a session for its whole life. It is public: it proves nothing.
type SessionID [16]byte

// String is the UUID form (RFC 9562), 8-4-4-4-12 lower-case hex digits.
func (id SessionID) String() string { return uuid(id) }

// ParseSessionID reads the UUID form.
func ParseSessionID(text string) (SessionID, error) {
	b, err := parseUUID(text)
	return SessionID(b), err
}

// Handle is the id a venue shows for a session. Genesis changes it at each refresh, other venues keep it; at login it
// equals the session's id. It is public: it proves nothing.
type Handle [16]byte

// String is the UUID form (RFC 9562).
func (h Handle) String() string { return uuid(h) }

// ParseHandle reads the UUID form.
func ParseHandle(text string) (Handle, error) {
	b, err := parseUUID(text)
	return Handle(b), err
}

// PodID names one life of an adapter pod: it is minted when the pod starts. It proves nothing.
type PodID [16]byte

// String is the UUID form (RFC 9562).
func (id PodID) String() string { return uuid(id) }

// TokenHash is the SHA-256 of a token's text: the only form in which a token leaves the pod that minted it. Tokens
// carry at least 128 random bits, so a plain hash is enough (OWASP ASVS 5.0, 6.5.2).
type TokenHash [sha256.Size]byte

// TokenKey is the first half of a token's hash: enough to tell tokens apart, where many have to be remembered. Nobody can
// aim at one.
type TokenKey [16]byte

// Key is the first half.
func (h TokenHash) Key() TokenKey { return TokenKey(h[:16]) }

// HashToken hashes the text a client presents. It allocates nothing for tokens of up to 128 bytes.
func HashToken(token string) TokenHash {
	var buf [128]byte
	if len(token) > len(buf) {
		return sha256.Sum256([]byte(token))
	}
	return sha256.Sum256(buf[:copy(buf[:], token)])
}

// Instant is a time of the book's clock in Unix nanoseconds (UTC). Zero means "none".
type Instant int64

// Forever is later than every other instant: a lock that only an operator opens.
const Forever Instant = math.MaxInt64

// At converts a wall-clock time.
func At(t time.Time) Instant { return Instant(t.UnixNano()) }

// Time converts back, in UTC.
func (i Instant) Time() time.Time { return time.Unix(0, int64(i)).UTC() }

// Add moves the instant by d and stops at [Forever].
func (i Instant) Add(d time.Duration) Instant {
	if d > 0 && i > Forever-Instant(d) {
		return Forever
	}
	return i + Instant(d)
}

// earliest is the first of the instants that are set; zero when none is.
func earliest(instants ...Instant) Instant {
	var first Instant
	for _, i := range instants {
		if i != 0 && (first == 0 || i < first) {
			first = i
		}
	}
	return first
}

// TokenKind says what a known token is to its session.
type TokenKind uint8

// The kinds.
const (
	NoToken      TokenKind = iota // belongs to no live session
	AccessToken                   // its session's access token
	RefreshToken                  // its session's refresh token
	SpentToken                    // a refresh token that a rotation replaced
)

// Credential is what a check of a presented name and secret found: whose it is, which generation of the verifier
// judged, and the verdict. Of a name nobody has, User is a decoy.
type Credential struct {
	User       UserID
	Generation uint64
	Verdict    Verdict
}

// Profile is what a venue may show of a user, and which rights it may grant them. It lives in the directory, where it
// can be erased.
type Profile struct {
	User   UserID
	Names  []string // login names; the first is the one shown
	First  string
	Last   string
	Scopes []string // rights; empty: those that the venue gives everybody
}

// Session is what is known of one session. It holds no secret: hashes only.
type Session struct {
	ID     SessionID
	Handle Handle
	User   UserID
	Venue  Venue
	Client string // the client software as the venue names it; may be empty
	Bound  bool   // ends with the connection it was opened on
	Pod    PodID  // of a bound session: the pod that its client was on last, whose death ends it; zero: not known

	Generation uint32  // 1 after the login, one more after each refresh
	Started    Instant // when the login was accepted
	LastActive Instant // login, refresh or recorded use

	Until       Instant       // absolute end of the session
	Idle        time.Duration // the session ends this long after LastActive; zero: no idle limit
	Access      TokenHash
	AccessUntil Instant       // absolute end of the access token; zero: as the session
	AccessIdle  time.Duration // the access token dies this long after LastActive; zero: no idle limit

	Refresh      TokenHash // zero: the session cannot be refreshed
	RefreshUntil Instant   // absolute end of the refresh token; zero: as the session
	Spent        TokenHash // the refresh token that the last rotation replaced; zero: none
	SpentUntil   Instant   // until when the holder of Spent still gets the same successor

	Failed        uint32   // failed logins of this user between the login before and this one
	Rejected      uint32   // refused though the password was not judged or was right (locked, disabled, too many sessions)
	PreviousLogin Instant  // the user's login before this one; zero: this is the first
	Scopes        []string // granted access rights, where the venue knows them
}

// Live is what a check of an access token needs to know of the session that it belongs to.
type Live struct {
	ID       SessionID
	User     UserID
	Deadline Instant // the first instant at which the access token is refused
	NoteFrom Instant // from when on a use is worth recording, because it moves the deadline; [Forever]: never
	Venue    Venue
}

// useGrain is how finely use is recorded: in tenths of the shortest idle limit. An idle session can end up to this
// fraction of the limit early, and never late.
const useGrain = 10

// Live is what a check of the session's access token needs.
func (s *Session) Live() Live {
	live := Live{ID: s.ID, User: s.User, Deadline: s.AccessDeadline(), NoteFrom: Forever, Venue: s.Venue}
	idle := s.Idle
	if s.AccessIdle > 0 && (idle == 0 || s.AccessIdle < idle) {
		idle = s.AccessIdle
	}
	if idle > 0 {
		live.NoteFrom = s.LastActive.Add(idle / useGrain)
	}
	return live
}

// Deadline is the first instant at which the session is over.
func (s *Session) Deadline() Instant {
	if s.Idle > 0 {
		return earliest(s.Until, s.LastActive.Add(s.Idle))
	}
	return s.Until
}

// AccessDeadline is the first instant at which the access token is refused.
func (s *Session) AccessDeadline() Instant {
	d := earliest(s.Deadline(), s.AccessUntil)
	if s.AccessIdle > 0 {
		d = earliest(d, s.LastActive.Add(s.AccessIdle))
	}
	return d
}

// RefreshDeadline is the first instant at which the refresh token is refused.
func (s *Session) RefreshDeadline() Instant { return earliest(s.Deadline(), s.RefreshUntil) }

var errNotUUID = errors.New("not a UUID (8-4-4-4-12 hex digits)")

func uuid(id [16]byte) string {
	var out [36]byte
	hex.Encode(out[0:8], id[0:4])
	hex.Encode(out[9:13], id[4:6])
	hex.Encode(out[14:18], id[6:8])
	hex.Encode(out[19:23], id[8:10])
	hex.Encode(out[24:36], id[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

func parseUUID(text string) (id [16]byte, err error) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return id, errNotUUID
	}
	packed := text[0:8] + text[9:13] + text[14:18] + text[19:23] + text[24:36]
	if _, err := hex.Decode(id[:], []byte(packed)); err != nil {
		return [16]byte{}, errNotUUID
	}
	return id, nil
}
