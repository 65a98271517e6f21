package zenith

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// subprotocol is the one serialisation that is served, in text frames; a client fails when it is not echoed.
const subprotocol = "ZenithJson"

// newestVersion is the protocol version that a client gets which asks for none.
const newestVersion = "2.0"

// statusSession is the venue's close code for a session that is dropped. Its client does not reconnect after it.
const statusSession = websocket.StatusCode(4000)

// socket is one WebSocket connection (RFC 6455). Its goroutines are the request's, which reads, answers and writes; one
// that pings; and one that waits for the end of the session or of its authentication. [Handler.handshake] joins them.
type socket struct {
	h       *Handler
	conn    *websocket.Conn
	secure  bool   // the connection is TLS
	version string // of the protocol
	limit   *adapters.MessageRate
	origin  session.Origin
	heard   atomic.Int64 // when the client last sent anything, Unix nanoseconds

	gone    chan struct{} // closed when the reading has ended
	changed chan struct{} // holds an element when who has changed since keep looked
	work    sync.WaitGroup

	// mu is held while a message is answered and the answer written, so that whoever closes the socket waits for that.
	mu       sync.Mutex
	who      *identity           // guarded by mu; nil: nobody
	subs     map[key]int         // guarded by mu: references to each topic
	timeouts map[string]timeouts // guarded by mu: by controller
}

var versions = regexp.MustCompile(`^[12](\.\d{1,4}){0,3}$`)

// handshake opens a socket. It is refused with 400 when it offers no subprotocol that is served, or asks for an unknown
// version; with 403, the venue's answer, when its token is not good; with 503 when nobody can say, or there is no room.
func (h *Handler) handshake(w http.ResponseWriter, r *http.Request) {
	offered := strings.FieldsFunc(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), func(c rune) bool { return c == ',' || c == ' ' })
	version := r.URL.Query().Get("version")
	switch {
	case len(offered) > 0 && !slices.Contains(offered, subprotocol):
		h.refuse(w, classSocket, "the subprotocol here is "+subprotocol, http.StatusBadRequest)
		return
	case version != "" && !versions.MatchString(version):
		h.refuse(w, classSocket, "the version here is "+newestVersion, http.StatusBadRequest)
		return
	case !h.sockets.Admit():
		h.refuse(w, classSocket, "there is no room for another socket: try again", http.StatusServiceUnavailable)
		return
	}
	defer h.sockets.Dismiss()
	adapters.SetDefault(&version, newestVersion)
	s := &socket{
		h: h, secure: r.TLS != nil, version: version, limit: adapters.NewMessageRate(h.cfg.MessageRate), origin: adapters.OriginOf(r),
		gone: make(chan struct{}), changed: make(chan struct{}, 1), subs: make(map[key]int), timeouts: make(map[string]timeouts),
	}
	if v := s.authorise(r); v.no() {
		h.replies.Count(classSocket, v.outcome())
		if v.rejected {
			http.Error(w, "the token is not good", http.StatusForbidden)
		} else {
			http.Error(w, v.code, http.StatusServiceUnavailable)
		}
		return
	}
	// No cookie counts here, so a foreign page can do no more than any client: its origin is not looked at.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{subprotocol},
		OnPingReceived: func(context.Context, []byte) bool { s.hear(); return true }, OnPongReceived: func(context.Context, []byte) { s.hear() }})
	if err != nil {
		h.log.Debug("a handshake failed", "err", err)
		s.mu.Lock()
		s.leave(h.cfg.Linger) // Accept has answered; the client may come back with the token
		s.mu.Unlock()
		return
	}
	h.replies.Count(classSocket, adapters.OutcomeGood)
	s.conn = conn
	conn.SetReadLimit(h.cfg.MaxMessage)
	s.run()
}

// authorise judges the header Authorization, "<Provider> <AccessToken>" (RFC 6750, 2.1). Without one the client
// authenticates later. The provider's name is an authentication scheme here, whose case does not count (RFC 9110, 11.1).
func (s *socket) authorise(r *http.Request) verdict {
	header := r.Header.Get("Authorization")
	if header == "" {
		return verdict{}
	}
	provider, token, _ := strings.Cut(header, " ")
	if token = strings.TrimSpace(token); token == "" || len(token) > maxGrant {
		return rejected
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.h.cfg.CallTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.present(ctx, s.h.scheme(provider), token)
}

// run reads and answers until the socket closes, and leaves the session to linger.
func (s *socket) run() {
	s.hear()
	s.work.Go(s.ping)
	s.work.Go(s.keep)
	for {
		kind, frame, err := s.conn.Read(context.Background()) // how long that may take is ping's to judge
		if err != nil || !s.take(kind, frame) {
			break
		}
	}
	close(s.gone)
	s.conn.CloseNow() // closed already, unless the client's bytes made no sense
	s.mu.Lock()
	s.leave(s.h.cfg.Linger)
	s.mu.Unlock()
	s.work.Wait()
}

// hear notes a sign of life.
func (s *socket) hear() { s.heard.Store(time.Now().UnixNano()) }

// take answers one frame and reports whether the socket goes on.
func (s *socket) take(kind websocket.MessageType, frame []byte) bool {
	s.hear()
	r, code, err := decodeEnvelope(frame)
	if err != nil || kind != websocket.MessageText {
		s.conn.Close(websocket.StatusInvalidFramePayloadData, "not a JSON object in a text frame")
		return false
	}
	if !s.limit.Allow() {
		code = tooMany
	}
	if s.limit.CloseAbused(s.conn, s.h.log) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.h.sockets.Closing().Err() != nil {
		return false // the client would not get to know what came of it
	}
	list := s.respond(context.Background(), r, code)
	s.h.replies.Count(classOf(r), outcomeOf(list))
	return s.send(list) == nil
}

// send writes messages. A client that does not take one in time loses the socket: nobody waits for it. Its caller holds
// mu.
func (s *socket) send(list []envelope) error {
	for _, e := range list {
		ctx, cancel := context.WithTimeout(context.Background(), s.h.cfg.WriteTimeout)
		err := s.conn.Write(ctx, websocket.MessageText, adapters.RenderJSON(e))
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// ping asks for a sign of life and closes the socket when there has been none for two intervals. A client that is there
// uses its session, even if it only listens.
func (s *socket) ping() {
	tick := time.NewTicker(s.h.cfg.PingInterval)
	defer tick.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		select {
		case <-tick.C:
		case <-s.gone:
			return
		}
		silent := time.Since(time.Unix(0, s.heard.Load()))
		if silent >= 2*s.h.cfg.PingInterval {
			s.conn.Close(websocket.StatusPolicyViolation, "nothing was heard for too long")
			return
		}
		// The pong is heard by the reading; here it only ends the wait.
		s.work.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, s.h.cfg.PingInterval)
			defer cancel()
			_ = s.conn.Ping(ctx)
		})
		if silent < s.h.cfg.PingInterval {
			s.noteUse()
		}
	}
}

// noteUse has the use of the session recorded when that is due.
func (s *socket) noteUse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.authenticated() {
		return
	}
	now := session.At(s.h.cfg.Now())
	if known, live := s.h.gate.Session(s.who.session.ID); live && now >= known.Live().NoteFrom {
		s.h.gate.Use(known.ID, known.User)
	}
}

// nudge has keep look again.
func (s *socket) nudge() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// keep waits for what befalls the socket from outside: its session ends, its authentication expires, the service stops.
func (s *socket) keep() {
	for {
		ended, expires, stop := s.outlook()
		select {
		case <-s.changed:
		case <-ended:
			s.sessionEnded(ended)
		case <-expires:
			s.expire()
		case <-s.h.sockets.Closing().Done():
			stop()
			s.mu.Lock() // a message that is being answered gets its reply
			defer s.mu.Unlock()
			s.conn.Close(websocket.StatusServiceRestart, "the service stops")
			return
		case <-s.gone:
			stop()
			return
		}
		stop()
	}
}

// outlook is what keep waits for: nothing, when the client is nobody or has been told that its authentication is over.
func (s *socket) outlook() (ended <-chan struct{}, expires <-chan time.Time, stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stop = func() {}
	if s.who == nil {
		return nil, nil, stop
	}
	if !s.who.expired {
		timer := time.NewTimer(max(0, s.deadline().Time().Sub(s.h.cfg.Now())))
		expires, stop = timer.C, func() { timer.Stop() }
	}
	return s.who.ended, expires, stop
}

// expire tells subscribers that nobody is authenticated any more. The socket and its subscriptions stay: the client may
// present its token, or another.
func (s *socket) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.who == nil || s.who.expired || s.authenticated() {
		return // it was renewed meanwhile
	}
	s.who.expired = true
	if s.subs[identify] > 0 {
		_ = s.send([]envelope{{Controller: auth, Topic: identify.topic, Data: adapters.RenderJSON(s.whoami())}}) // the reading ends by it
	}
}

// grace is by how much the clocks of pods and writers may differ when it is asked why a session ended.
const grace = 5 * time.Second

// sessionEnded parts from a session that is no more. One that has run out leaves the socket open, as expiry does; one
// that was ended elsewhere (by the limit of sessions, a second client, an operator) takes it along.
func (s *socket) sessionEnded(ended <-chan struct{}) {
	s.mu.Lock()
	if s.who == nil || s.who.ended != ended {
		s.mu.Unlock()
		return // another login has taken its place
	}
	id, last := s.who.session.ID, s.deadline()
	expired := session.At(s.h.cfg.Now()).Add(grace) >= last
	tell := expired && !s.who.expired && s.subs[identify] > 0
	s.leave(adapters.Over)
	if tell {
		_ = s.send([]envelope{{Controller: auth, Topic: identify.topic, Data: adapters.RenderJSON(s.whoami())}})
	}
	s.mu.Unlock()
	if !expired {
		s.h.log.Info("a socket was closed: its session has ended", "session", id)
		s.conn.Close(statusSession, "the session has ended elsewhere")
	}
}
