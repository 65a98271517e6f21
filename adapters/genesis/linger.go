package genesis

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

const (
	// retryEnd is when the end of a session is asked for again after nobody could say what came of it.
	retryEnd = 5 * time.Second
	// lateUse is how long after the last socket went a use may still be recorded that came by it.
	lateUse = time.Second
)

// arrive notes that the session's client is on one more socket, and is here to stay.
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

// renewed notes a refresh, by whatever way.
func (h *Handler) renewed(s session.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.held[s.ID]; e != nil {
		e.renew(s)
		if e.sockets == 0 { // it goes on without a socket, or on one that is about to arrive
			delete(h.held, s.ID)
		}
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

// depart notes that a socket is gone, or that its session is. When it was the last one, a session that was opened over
// a socket ends after the time in which its client may come back: by a refresh, or with the token that it has. A pod
// that dies meanwhile ends nothing; the session's idle limit does, or the lease of its pod.
func (h *Handler) depart(id session.SessionID, over bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.held[id]
	if e.sockets--; e.sockets > 0 {
		return
	}
	if over || !e.session.Bound || h.cfg.Linger < 0 || h.stopped {
		delete(h.held, id)
		return
	}
	h.endAfter(e, h.cfg.Linger, session.At(h.cfg.Now()))
}

// endAfter ends the session unless something happens to it first. Its caller holds mu.
func (h *Handler) endAfter(e *held, after time.Duration, left session.Instant) {
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
			h.end(e, left)
		}
	})
	e.timer = timer
}

// end asks the gate for the end of the session, sixteen at a time. Whether it was refreshed is the book's to say: the
// gate asks for the end of this generation alone. A use that is recorded since shows that its client has come back to
// another pod, which then sees it go.
func (h *Handler) end(e *held, left session.Instant) {
	select {
	case h.ends <- struct{}{}:
		defer func() { <-h.ends }()
	case <-h.closing.Done():
		return
	}
	s := e.session
	if now, live := h.gate.Session(s.ID); live && now.LastActive > left.Add(lateUse) {
		return
	}
	ctx, cancel := context.WithTimeout(h.closing, h.cfg.CallTimeout)
	defer cancel()
	refused, err := h.gate.Disconnect(ctx, s)
	if err == nil {
		h.log.Debug("a session was left by its socket", "session", s.ID, "refusal", refused.Code)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stopped && h.held[s.ID] == nil { // not stopping, and nobody has come back
		h.log.Warn("a session whose socket is gone could not be ended; it is tried again", "session", s.ID, "err", err)
		h.held[s.ID] = e
		h.endAfter(e, retryEnd, left)
	}
}
