package genesis

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// maxHeld bounds the sessions whose client is on one socket; a page has one.
const maxHeld = 8

// socket is one WebSocket connection (RFC 6455). Its goroutines are the request's, which reads, answers and writes;
// one that looks after it; and one a session, which waits for the session's end. [Handler.serveSocket] joins them.
type socket struct {
	h      *Handler
	conn   *websocket.Conn
	cookie cookieTokens
	limit  *adapters.MessageRate
	origin session.Origin

	gone chan struct{} // closed when the reading has ended
	work sync.WaitGroup

	// mu is held while a message is answered and its reply written, so that whoever closes the socket waits for that.
	mu      sync.Mutex
	holds   map[session.SessionID]*watched // guarded by mu: the sessions whose client is on this socket
	current session.SessionID              // guarded by mu: the one that came last; zero after its logout
	times   socketTimes                    // guarded by mu
}

// socketTimes are Unix milliseconds; zero before the first.
type socketTimes struct{ opened, received, sent int64 }

// handshakeFault is what is wrong with a handshake (RFC 6455, 4.2.1). The library would say it too, but not in the
// venue's words.
func handshakeFault(r *http.Request) *fault {
	wrong := func(text string) *fault {
		return &fault{code: "INVALID_MESSAGE", status: http.StatusBadRequest, text: text}
	}
	keys := r.Header.Values("Sec-WebSocket-Key")
	switch {
	case !r.ProtoAtLeast(1, 1):
		return wrong("A socket needs HTTP/1.1")
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return wrong("Sec-WebSocket-Version must be 13")
	case len(keys) != 1:
		return wrong("Sec-WebSocket-Key must be there once")
	}
	if key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(keys[0])); err != nil || len(key) != 16 {
		return wrong("Sec-WebSocket-Key must be 16 bytes in base64")
	}
	return nil
}

// watched is a session whose end is watched for.
type watched struct {
	ended <-chan struct{} // closed when the session ends
	stop  func()          // ends the watch
}

// serveSocket keeps a socket until it closes; at is what the path names, empty where sockets are. A handshake
// that is refused has its HTTP status whatever the mode: 200 would be no answer to it.
func (h *Handler) serveSocket(w http.ResponseWriter, r *http.Request, at string) {
	s := &socket{
		h: h, cookie: h.readCookies(r), gone: make(chan struct{}), holds: make(map[session.SessionID]*watched),
		limit: adapters.NewMessageRate(h.cfg.MessageRate), origin: adapters.OriginOf(r), times: socketTimes{opened: h.cfg.Now().UnixMilli()},
	}
	if fault := s.admit(r, at); fault != nil {
		h.replied(classSocket, fault)
		h.bounded(w, func() {
			w.Header().Set("Content-Type", adapters.JSONType)
			w.Header().Set("Sec-WebSocket-Version", "13") // RFC 6455, 4.4: what would be understood
			w.WriteHeader(fault.status)
			_, _ = w.Write(append(adapters.RenderJSON(fault.body(messageNack, "")), '\n'))
		})
		return
	}
	defer h.sockets.Dismiss()
	// The origin has been judged by the rules that the calls have too, so the library need not.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		h.log.Debug("a handshake failed", "err", err)
		return // Accept has answered
	}
	h.replied(classSocket, nil)
	s.conn = conn
	conn.SetReadLimit((adapters.DiscardFactor + 1) * h.cfg.MaxBody)
	s.run()
}

// admit says whether the handshake may go on, and then counts the socket.
func (s *socket) admit(r *http.Request, at string) *fault {
	if at != "" {
		return &fault{code: "FEATURE_NOT_FOUND", status: http.StatusNotFound, text: "The sockets are at /, /gwf/ and /sm/"}
	}
	if fault := handshakeFault(r); fault != nil {
		return fault
	}
	if !s.h.origins.Permits(r) {
		return &fault{code: "NOT_AUTHORISED", status: http.StatusForbidden, text: "Pages of this origin may not open sockets"}
	}
	if s.h.cfg.Cookies {
		ctx, cancel := context.WithTimeout(r.Context(), s.h.cfg.CallTimeout)
		defer cancel()
		if _, fault := s.h.authenticate(ctx, &call{name: "the handshake of a socket", cookie: s.cookie}); fault != nil {
			return fault
		}
	}
	if !s.h.sockets.Admit() {
		return &fault{code: "UNAVAILABLE", status: http.StatusServiceUnavailable, text: "There is no room for another socket: try again"}
	}
	return nil
}

// run reads and answers until the socket closes, and leaves the sessions to linger.
func (s *socket) run() {
	s.work.Go(func() {
		s.h.sockets.LookAfter(adapters.Care{Conn: s.conn, Every: s.h.cfg.PingInterval,
			Patience: s.h.cfg.PingInterval + s.h.cfg.CallTimeout + s.h.cfg.WriteTimeout,
			Clean:    s.h.cfg.CleanClose, Busy: &s.mu, Gone: s.gone})
	})
	for {
		kind, data, whole, err := s.read()
		if err != nil || s.reply(kind, data, whole) != nil {
			break
		}
		if s.limit.CloseAbused(s.conn, s.h.log) {
			break
		}
	}
	close(s.gone)
	s.conn.CloseNow() // closed already, unless the client's bytes made no sense
	s.mu.Lock()
	for id := range s.holds {
		s.untie(id, false)
	}
	s.mu.Unlock()
	s.work.Wait()
}

// read gives the next message, and whether it is all of it: what is larger than the bound is read and thrown away, so
// that it can be refused by a reply; what is larger still closes the socket with code 1009. How long reading may take
// is for the pings to judge.
func (s *socket) read() (kind websocket.MessageType, data []byte, whole bool, err error) {
	kind, from, err := s.conn.Reader(context.Background())
	if err != nil {
		return kind, nil, false, err
	}
	if data, err = io.ReadAll(io.LimitReader(from, s.h.cfg.MaxBody+1)); err != nil {
		return kind, nil, false, err
	}
	_, err = io.Copy(io.Discard, from)
	return kind, data, int64(len(data)) <= s.h.cfg.MaxBody, err
}

// reply answers one message. A client that does not take the reply in time loses the socket: nobody waits for it.
func (s *socket) reply(kind websocket.MessageType, data []byte, whole bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.h.sockets.Closing().Err(); err != nil {
		return err // the client would not get to know what came of it
	}
	s.times.received = s.h.cfg.Now().UnixMilli()
	c := &call{socket: &s.times, origin: s.origin, cookie: s.cookie, current: s.current}
	a := no(s.h.tooLarge())
	if whole {
		a = s.answer(c, kind, data)
	}
	s.h.replied(classOf(c.name), a.fault)
	body := a.body
	if !a.good() {
		body = a.refusal(c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.h.cfg.WriteTimeout)
	defer cancel()
	err := s.conn.Write(ctx, websocket.MessageText, adapters.RenderJSON(body))
	s.times.sent = s.h.cfg.Now().UnixMilli()
	return err
}

// answer serves one message. Its caller holds mu.
func (s *socket) answer(c *call, kind websocket.MessageType, data []byte) answer {
	within := s.limit.Allow()
	m, fault := adapters.Object(nil), (*fault)(nil)
	if kind != websocket.MessageText {
		fault = invalid("The message", "must be a text frame")
	} else if m, fault = decodeMessage(data); fault == nil {
		fault = c.readBody(m)
	}
	if !within {
		return no(&tooMany)
	}
	if fault != nil {
		return no(fault)
	}
	if calls[c.name].nack == loginNack && c.password != "" && len(s.holds) >= maxHeld {
		return no(&noRoom)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.h.cfg.CallTimeout)
	defer cancel()
	a := s.h.answer(ctx, c)
	switch {
	case a.grant != nil:
		s.hold(a.grant.Session)
	case a.ended:
		s.release()
	case c.checked != session.SessionID{}:
		s.adopt(c.checked)
	}
	return a
}

var tooMany = fault{code: "MAX_LOGON_LIMIT", status: http.StatusTooManyRequests, text: "This socket asks for too much: wait"}

var noRoom = fault{code: "MAX_LOGON_LIMIT", status: http.StatusTooManyRequests,
	text: fmt.Sprintf("This socket has %d sessions: log out of another session first", maxHeld)}

// hold ties a session to the socket that opens or refreshes it, because that is where its client is: when the session
// ends, the socket is closed. The other way round holds only for sessions that were opened over a socket (Bound). A
// session that is refreshed here beyond the bound goes on untied: its idle limit ends it.
func (s *socket) hold(granted session.Session) {
	id := granted.ID
	s.current = id
	if s.holds[id] != nil || len(s.holds) >= maxHeld {
		return
	}
	s.h.linger.Arrive(granted)
	ended, stop := s.h.gate.Watch(id)
	s.holds[id] = &watched{ended, stop}
	s.work.Go(func() {
		select {
		case <-ended:
			s.ended(id)
		case <-s.gone:
		}
	})
}

// adopt ties a session whose token came with a message: a client that reconnects goes on with the token it has.
func (s *socket) adopt(id session.SessionID) {
	if s.holds[id] != nil || len(s.holds) >= maxHeld {
		return
	}
	live, ok := s.h.gate.Session(id)
	if !ok {
		return
	}
	s.hold(live)
	if live.Bound { // the pod that the client was on before is not to end the session
		s.h.gate.Use(id, live.User)
	}
}

// release unties the session that a logout has ended: its owner did that here, and may log in again over the socket.
func (s *socket) release() {
	for id, w := range s.holds {
		select {
		case <-w.ended:
			s.untie(id, true)
		default: // it lives, or its start has not been seen here yet
		}
	}
}

// untie forgets a session; over says that it has ended.
func (s *socket) untie(id session.SessionID, over bool) {
	s.holds[id].stop()
	delete(s.holds, id)
	if s.current == id {
		s.current = session.SessionID{}
	}
	after := s.h.cfg.Linger
	if over {
		after = adapters.Over
	}
	s.h.linger.Depart(id, after)
}

// ended closes the socket of a session that ended elsewhere: by a logout over HTTP, a limit, an operator. The close is
// clean, because the browser client does not come back after a clean one; told by heartbeats alone it would ask for a
// refresh every ten seconds, for ever.
func (s *socket) ended(id session.SessionID) {
	s.mu.Lock()
	here, current := s.holds[id] != nil, s.current == id
	if here {
		s.untie(id, true)
	}
	s.mu.Unlock()
	if here && current {
		s.h.log.Info("a socket was closed: its session has ended", "session", id)
		s.conn.Close(websocket.StatusPolicyViolation, "the session has ended")
	}
}
