package chaostest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"sync"
	"time"
)

// Kind is what a call asks for.
type Kind string

const (
	Login   Kind = "login"
	Refresh Kind = "refresh"
	Logout  Kind = "logout"
	Check   Kind = "check"  // is this access token good?
	Issue   Kind = "issue"  // make a one-time token
	Verify  Kind = "verify" // redeem it
)

// Outcome is what the client knows of a call.
type Outcome string

const (
	Yes     Outcome = "yes"
	No      Outcome = "no"
	Unknown Outcome = "unknown" // no answer, or "unavailable": it may have happened, and may still happen
)

// Venue is which protocol the call came by; their sessions differ.
type Venue string

const (
	Genesis         Venue = "genesis"         // the refresh token stays, the access token changes; has a logout
	TraderEvolution Venue = "traderevolution" // the pair rotates, with a grace; reuse ends the session
)

// Token stands for a token: the beginning of its SHA-256.
type Token string

func tokenOf(text string) Token {
	if text == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(text))
	return Token(hex.EncodeToString(sum[:8]))
}

// Op is one call of a client.
type Op struct {
	Session int     `json:"session"` // the harness's own number; 0: a login that gave none
	Kind    Kind    `json:"kind"`
	Venue   Venue   `json:"venue"`
	Pod     string  `json:"pod"`             // the process that was asked, and which life of it
	Token   Token   `json:"token,omitempty"` // presented
	Access  Token   `json:"access,omitempty"`
	Renews  Token   `json:"renews,omitempty"` // the refresh token that was granted with Access
	Outcome Outcome `json:"outcome"`
	Text    string  `json:"text,omitempty"` // what a refusal said
	// Begin and End are times since the history began. Of an unknown call, End is when the client gave up.
	Begin time.Duration `json:"begin"`
	End   time.Duration `json:"end"`
}

// History is what all clients saw. It is safe for concurrent use.
type History struct {
	began time.Time

	mu       sync.Mutex
	ops      []Op // guarded by mu: in the order of their ends
	sessions int  // guarded by mu
}

// NewHistory begins now.
func NewHistory() *History { return &History{began: time.Now()} }

func (h *History) now() time.Duration { return time.Since(h.began) }

// note ends the call and keeps it.
func (h *History) note(op Op) {
	op.End = h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

func (h *History) newSession() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions++
	return h.sessions
}

// Ops is all that was noted.
func (h *History) Ops() []Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Op(nil), h.ops...)
}

// Write writes one JSON object a line.
func (h *History) Write(w io.Writer) error {
	lines := json.NewEncoder(w)
	for _, op := range h.Ops() {
		if err := lines.Encode(op); err != nil {
			return err
		}
	}
	return nil
}
