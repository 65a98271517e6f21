package nebula

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"rollbook/engine/session"
)

// maxOpen bounds the createSession calls of one socket that wait; a client has one.
const maxOpen = 16

// retryEnd is when the end of a session is asked for again after nobody could say what came of it.
const retryEnd = 5 * time.Second

// socket is one WebSocket connection (RFC 6455). Its goroutines are the request's, which reads; one that creates
// sessions, in the order in which they were asked for, so that a client can cancel meanwhile; one that looks after it;
// and one that waits for the session's end. [Handler.serveSocket] joins them.
type socket struct {
	h      *Handler
	conn   *websocket.Conn
	limit  *rate.Limiter
	excess int // frames over the limit, one after the other

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
		write(w, fault)
		return
	}
	defer h.dismiss()
	// The origin has been judged, so the library need not.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		h.log.Debug("a handshake failed", "err", err)
		return // Accept has answered
	}
	conn.SetReadLimit(h.cfg.MaxFrame)
	s := &socket{h: h, conn: conn, limit: rate.NewLimiter(rate.Limit(h.cfg.MessageRate), 2*h.cfg.MessageRate),
		calls: make(chan *call, maxOpen), gone: make(chan struct{}), open: make(map[int64]*call)}
	s.run()
}

// admit says whether the handshake may go on, and then counts the socket.
func (h *Handler) admit(r *http.Request) *fault {
	if !h.permits(r) {
		return &foreign
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped || h.sockets >= h.cfg.MaxSockets {
		return &unavailable
	}
	h.sockets++
	h.work.Add(1)
	return nil
}

// dismiss undoes admit.
func (h *Handler) dismiss() {
	h.mu.Lock()
	h.sockets--
	h.mu.Unlock()
	h.work.Done()
}

// run reads and answers until the socket closes, and ends the session that was opened for it.
func (s *socket) run() {
	s.work.Go(s.lookAfter)
	s.work.Go(s.createAll)
	for {
		// How long reading may take is lookAfter's to judge.
		_, from, err := s.conn.Reader(context.Background())
		if err != nil {
			break
		}
		data, err := io.ReadAll(from)
		if err != nil || s.take(data) != nil {
			break
		}
		if s.excess > 20*s.h.cfg.MessageRate {
			s.h.log.Info("a socket was closed: it sends too much")
			s.conn.Close(websocket.StatusPolicyViolation, "too many messages")
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
	s.h.end(left)
}

// take answers a frame, or leaves it to createAll. The order of the checks is the gateway's. An error means that the
// client does not take its replies.
func (s *socket) take(data []byte) error {
	within := s.limit.Allow()
	if within {
		s.excess = 0
	} else {
		s.excess++
	}
	f, ok := decodeFrame(data)
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !f.numbered:
		return s.write(f.error(&noSID))
	case f.cancel:
		delete(s.open, f.sid) // whatever comes of the call, the client does not wait for it
		if f.qualifier == "" {
			return nil
		}
		return s.write(f.signal(sigCancel))
	case s.open[f.sid] != nil:
		return s.write(f.error(&fault{code: 400, text: "sid=" + strconv.FormatInt(f.sid, 10) + " is already registered", errorType: "400"}))
	case f.qualifier == "":
		return s.write(f.error(&noQualifier))
	case !within:
		return s.write(f.error(&unavailable))
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
		return s.write(f.signal(sigComplete))
	case nebulaCreate, exchangeCreate, "v1/" + exchangeCreate:
		p, fault := decodePresented(f.body, f.qualifier != nebulaCreate)
		if fault != nil {
			return s.write(f.error(fault))
		}
		c := &call{f, p}
		select {
		case s.calls <- c:
			s.open[f.sid] = c
			return nil
		default:
			return s.write(f.error(&unavailable))
		}
	}
	return s.write(f.error(s.notServed(f.qualifier)))
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

// createAll answers the calls one after the other.
func (s *socket) createAll() {
	for c := range s.calls {
		if !s.waits(c) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.h.cfg.CallTimeout)
		to, fault := s.h.create(ctx, c.presented)
		cancel()
		s.h.end(s.created(c, to, fault))
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
		_ = s.write(c.frame.error(fault)) // the reading ends too when this fails
		return nil
	}
	left := s.replace(to)
	_ = s.write(c.frame.signal(sigComplete))
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

// lookAfter pings the client and closes the socket when it does not answer or when the service stops.
func (s *socket) lookAfter() {
	ping := time.NewTicker(s.h.cfg.PingInterval)
	defer ping.Stop()
	for {
		select {
		case <-ping.C:
			ctx, cancel := context.WithTimeout(s.h.closing, s.h.cfg.PingInterval+s.h.cfg.WriteTimeout)
			err := s.conn.Ping(ctx)
			cancel()
			if err != nil && s.h.closing.Err() == nil {
				s.conn.CloseNow()
				return
			}
		case <-s.h.closing.Done():
			s.mu.Lock() // not into a reply
			defer s.mu.Unlock()
			if s.h.cfg.CleanClose {
				s.conn.Close(websocket.StatusServiceRestart, "the service stops")
			} else {
				s.conn.CloseNow()
			}
			return
		case <-s.gone:
			return
		}
	}
}

// end ends a session that was opened for a socket which does not need it any more; nil is none. It waits for that once; a
// failure is tried again until the service stops. A pod that dies meanwhile leaves the session to its deadline.
func (h *Handler) end(s *session.Session) {
	if s == nil || h.disconnect(s) == nil {
		return
	}
	h.work.Go(func() { // its caller is a socket, which is counted there too
		for {
			select {
			case <-time.After(h.retry):
				if h.disconnect(s) == nil {
					return
				}
			case <-h.closing.Done():
				return
			}
		}
	})
}

// disconnect asks the gate for the end of a session, 64 at a time.
func (h *Handler) disconnect(s *session.Session) error {
	h.ends <- struct{}{}
	defer func() { <-h.ends }()
	ctx, cancel := context.WithTimeout(context.Background(), h.cfg.CallTimeout)
	defer cancel()
	_, err := h.gate.Disconnect(ctx, *s)
	if err != nil {
		h.log.Warn("a session whose socket is gone could not be ended", "session", s.ID, "err", err)
	}
	return err
}
