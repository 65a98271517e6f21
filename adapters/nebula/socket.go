package nebula

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// maxOpen bounds the createSession calls of one socket that wait; a client has one.
const maxOpen = 16

// socket is one WebSocket connection (RFC 6455). Its goroutines are the request's, which reads; one that creates
// sessions, in the order in which they were asked for, so that a client can cancel meanwhile; one that looks after it;
// and one that waits for the session's end. [Handler.serveSocket] joins them.
type socket struct {
	h      *Handler
	conn   *websocket.Conn
	limit  *adapters.MessageRate
	origin session.Origin

	calls chan *call    // to be answered in order
	gone  chan struct{} // closed when the reading has ended
	work  sync.WaitGroup

	// mu is held while a reply is written, so that the replies to one sid come in order, and whoever closes the socket
	// does it between two.
	mu   sync.Mutex
	open map[int64]*call // guarded by mu: the calls that are not answered yet, by sid
	has  opened          // guarded by mu: the session on this socket; zero before the first
	stop func()          // guarded by mu: ends the watch of has; nil: there is none
}

// call is a createSession that is not answered yet.
type call struct {
	frame     frame
	presented presented
}

func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") &&
		strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade")
}

// serveSocket keeps a socket until it closes.
func (h *Handler) serveSocket(w http.ResponseWriter, r *http.Request) {
	if fault := h.admit(r); fault != nil {
		h.refuse(w, classSocket, fault)
		return
	}
	defer h.sockets.Dismiss()
	// The origin has been judged, so the library need not.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		h.log.Debug("a handshake failed", "err", err)
		return // Accept has answered
	}
	h.replies.Count(classSocket, adapters.OutcomeGood)
	conn.SetReadLimit(h.cfg.MaxFrame)
	s := &socket{h: h, conn: conn, limit: adapters.NewMessageRate(h.cfg.MessageRate), origin: adapters.OriginOf(r),
		calls: make(chan *call, maxOpen), gone: make(chan struct{}), open: make(map[int64]*call)}
	s.run()
}

// admit says whether the handshake may go on, and then counts the socket.
func (h *Handler) admit(r *http.Request) *fault {
	if !h.origins.Permits(r) {
		return &foreign
	}
	if !h.sockets.Admit() {
		return &unavailable
	}
	return nil
}

// run reads and answers until the socket closes, and ends the session that was opened for it.
func (s *socket) run() {
	s.work.Go(func() {
		s.h.sockets.LookAfter(adapters.Care{Conn: s.conn, Every: s.h.cfg.PingInterval,
			Patience: s.h.cfg.PingInterval + s.h.cfg.WriteTimeout, Clean: s.h.cfg.CleanClose, Busy: &s.mu, Gone: s.gone})
	})
	s.work.Go(s.createAll)
	for {
		// How long reading may take is for the pings to judge.
		_, from, err := s.conn.Reader(context.Background())
		if err != nil {
			break
		}
		data, err := io.ReadAll(from)
		if err != nil || s.take(data) != nil {
			break
		}
		if s.limit.CloseAbused(s.conn, s.h.log) {
			break
		}
	}
	close(s.calls)
	close(s.gone)
	s.conn.CloseNow() // closed already, unless the client's bytes made no sense
	s.work.Wait()
	s.mu.Lock()
	left := s.replace(opened{})
	s.mu.Unlock()
	s.end(left)
}

// end ends a session that was opened for the socket, which does not need it any more; nil is none. A pod that dies
// meanwhile leaves the session to its deadline.
func (s *socket) end(left *session.Session) {
	if left != nil {
		s.h.linger.End(*left)
	}
}

// take answers a frame, or leaves it to createAll. The order of the checks is the gateway's. An error means that the
// client does not take its replies.
func (s *socket) take(data []byte) error {
	within := s.limit.Allow()
	f, ok := decodeFrame(data)
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !f.numbered:
		return s.refuse(f, &noSID)
	case f.cancel:
		delete(s.open, f.sid) // whatever comes of the call, the client does not wait for it
		if f.qualifier == "" {
			return nil
		}
		return s.accept(f, sigCancel)
	case s.open[f.sid] != nil:
		return s.refuse(f, &fault{code: 400, text: "sid=" + strconv.FormatInt(f.sid, 10) + " is already registered", errorType: "400"})
	case f.qualifier == "":
		return s.refuse(f, &noQualifier)
	case !within:
		return s.refuse(f, &unavailable)
	}
	return s.dispatch(f)
}

// dispatch serves a call. Its caller holds mu.
func (s *socket) dispatch(f frame) error {
	switch f.qualifier {
	case heartbeat:
		if f.body != nil {
			if err := s.write(f.value(f.body)); err != nil {
				return err
			}
		}
		return s.accept(f, sigComplete)
	case nebulaCreate, exchangeCreate, "v1/" + exchangeCreate:
		p, fault := decodePresented(f.body, f.qualifier != nebulaCreate)
		if fault != nil {
			return s.refuse(f, fault)
		}
		p.origin = s.origin
		c := &call{f, p}
		select {
		case s.calls <- c:
			s.open[f.sid] = c
			return nil
		default:
			return s.refuse(f, &unavailable)
		}
	}
	return s.refuse(f, s.notServed(f.qualifier))
}

// notServed is the fault of a call that is not here. Those of the services that need a session ask for that first; of
// the others the gateway knows no member. Its caller holds mu.
func (s *socket) notServed(qualifier string) *fault {
	service, _, _ := strings.Cut(strings.TrimPrefix(qualifier, "v1/"), "/")
	if s.has == (opened{}) {
		switch service {
		case "broker.oms":
			return &fault{code: 200, text: "Invalid session", errorType: "401"}
		case "exchange.market":
			return &fault{code: 1007, text: "Invalid session", errorType: "401"}
		}
	}
	return &fault{code: 503, text: "No reachable member with such service: " + qualifier, errorType: "503"}
}

// write sends a reply. A client that does not take it in time loses the socket: nobody waits for it. Its caller holds mu.
func (s *socket) write(reply []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.h.cfg.WriteTimeout)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, reply)
}

// refuse answers a frame with a fault. Its caller holds mu.
func (s *socket) refuse(f frame, e *fault) error {
	s.h.replies.Count(classOf(f), e.outcome(e.code))
	return s.write(f.error(e))
}

// accept answers a frame with a signal that all is well. Its caller holds mu.
func (s *socket) accept(f frame, sig int) error {
	s.h.replies.Count(classOf(f), adapters.OutcomeGood)
	return s.write(f.signal(sig))
}

// createAll answers the calls one after the other.
func (s *socket) createAll() {
	for c := range s.calls {
		if !s.waits(c) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.h.cfg.CallTimeout)
		to, fault := s.h.create(ctx, c.presented)
		cancel()
		s.end(s.created(c, to, fault))
	}
}

// waits reports whether the client still waits for the call. Once a login has been asked of the gate it is not broken
// off: then nobody could say whether there is a session.
func (s *socket) waits(c *call) bool {
	select {
	case <-s.gone:
		return false
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[c.frame.sid] == c
}

// created puts the session on the socket and answers. It gives the session that is to be ended: the one that was there
// before, or the new one when its client has given up.
func (s *socket) created(c *call, to opened, fault *fault) *session.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[c.frame.sid] != c {
		return to.own
	}
	delete(s.open, c.frame.sid)
	if fault != nil {
		_ = s.refuse(c.frame, fault) // the reading ends too when this fails
		return nil
	}
	left := s.replace(to)
	_ = s.accept(c.frame, sigComplete)
	return left
}

// replace puts another session on the socket, or none, and gives the one that is to be ended for it. Its caller holds mu.
func (s *socket) replace(to opened) (left *session.Session) {
	if s.has.id == to.id {
		return nil
	}
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
	left, s.has = s.has.own, to
	if to.id == (session.SessionID{}) {
		return left
	}
	ended, release := s.h.gate.Watch(to.id)
	done := make(chan struct{})
	s.stop = func() { release(); close(done) }
	s.work.Go(func() {
		select {
		case <-ended:
			s.ended(to.id)
		case <-done:
		case <-s.gone:
		}
	})
	return left
}

// ended closes the socket of a session that ended: by its deadline, an operator, a limit. The vendor's clients do not
// come back by themselves after this code.
func (s *socket) ended(id session.SessionID) {
	s.mu.Lock()
	here := s.has.id == id
	if here {
		s.has.own = nil // there is nothing left to end
	}
	s.mu.Unlock()
	if here {
		s.h.log.Info("a socket was closed: its session has ended", "session", id)
		s.conn.Close(websocket.StatusPolicyViolation, "the session has ended")
	}
}
