package zenith

import (
	"context"
	"time"

	"rollbook/engine/session"
)

// held is a session whose client is on some socket of this pod, or was until lately.
type held struct {
	session session.Session // as it was granted last: the generation that a departure ends
	sockets int             // that its client is on
	timer   *time.Timer     // with no socket: ends the session when it fires
}

// over as a linger says that the session has ended.
const over = -time.Second

// arrive notes that the session's client is on one more socket.
func (h *Handler) arrive(s session.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.held[s.ID]
	if e == nil {
		e = &held{session: s}
		h.held[s.ID] = e
	}
	e.sockets++
	e.renew(s)
}

// renewed notes that the token was presented on a socket that the session is on.
func (h *Handler) renewed(s session.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.held[s.ID]; e != nil {
		e.renew(s)
	}
}

func (e *held) renew(s session.Session) {
	if s.Generation >= e.session.Generation {
		e.session = s
	}
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
}

// depart notes that a socket has parted from the session. When it was the last one, a bound session ends after linger;
// a client that comes back presents the token, here or at another pod, which makes it another generation. A pod that
// dies meanwhile ends nothing; the session's idle limit does, or the lease of its pod.
func (h *Handler) depart(id session.SessionID, linger time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.held[id]
	if e == nil {
		return
	}
	if e.sockets--; e.sockets > 0 {
		return
	}
	if linger < 0 || !e.session.Bound || h.stopped {
		delete(h.held, id)
		return
	}
	h.endAfter(e, linger)
}

// endAfter ends the session unless its client comes first. Its caller holds mu.
func (h *Handler) endAfter(e *held, after time.Duration) {
	var timer *time.Timer
	timer = time.AfterFunc(after, func() {
		h.mu.Lock() // also orders this after the assignment of timer
		due := !h.stopped && e.timer == timer
		if due {
			delete(h.held, e.session.ID)
			h.work.Add(1)
		}
		h.mu.Unlock()
		if due {
			defer h.work.Done()
			h.end(e)
		}
	})
	e.timer = timer
}

// end asks the gate for the end of the session, sixteen at a time. Whether its client has come back elsewhere is the
// book's to say: the gate asks for the end of this generation alone.
func (h *Handler) end(e *held) {
	select {
	case h.ends <- struct{}{}:
		defer func() { <-h.ends }()
	case <-h.closing.Done():
		return
	}
	ctx, cancel := context.WithTimeout(h.closing, h.cfg.CallTimeout)
	defer cancel()
	refused, err := h.gate.Disconnect(ctx, e.session)
	if err == nil {
		h.log.Debug("a session was left by its socket", "session", e.session.ID, "refusal", refused.Code)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stopped && h.held[e.session.ID] == nil { // not stopping, and nobody has come back
		h.log.Warn("a session whose socket is gone could not be ended; it is tried again", "session", e.session.ID, "err", err)
		h.held[e.session.ID] = e
		h.endAfter(e, h.retryEnd)
	}
}
