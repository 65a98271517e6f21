package zenith

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"rollbook/adapters"
)

// subscribe adds a reference to a topic. What the topic has to say comes first, and once, however many references there
// are. Its caller holds mu.
func (s *socket) subscribe(r request) []envelope {
	at := key{r.controller, r.topic}
	t, served := topics[at]
	if !served {
		return r.failed(s.unserved(r))
	}
	s.subs[at]++
	var list []envelope
	if t.announce != nil && s.subs[at] == 1 {
		if data := t.announce(s); data != nil {
			list = append(list, envelope{Controller: r.controller, Topic: r.topic, Data: data})
		}
	}
	if r.confirm {
		list = append(list, envelope{Controller: r.controller, Topic: r.topic, Action: subscribe, Confirm: true})
	}
	return list
}

// unsubscribe always succeeds. Its caller holds mu.
func (s *socket) unsubscribe(r request) []envelope {
	at := key{r.controller, r.topic}
	if s.subs[at]--; s.subs[at] <= 0 {
		delete(s.subs, at)
	}
	if !r.confirm {
		return nil
	}
	return []envelope{{Controller: r.controller, Topic: r.topic, Action: unsubscribe}}
}

// announceIdentity says who the client is; nothing before it is somebody.
func announceIdentity(s *socket) json.RawMessage {
	if !s.authenticated() {
		return nil
	}
	return adapters.RenderJSON(s.whoami())
}

// server is the payload of ServerInfo.
type server struct {
	Name     string `json:"Name"`
	Class    string `json:"Class"` // the venue's one value
	Version  string `json:"Version"`
	Protocol string `json:"Protocol"`
}

func announceServer(s *socket) json.RawMessage {
	return adapters.RenderJSON(server{Name: s.h.cfg.ServerName, Class: "FeedProxy", Version: s.h.cfg.Version, Protocol: s.version})
}

// timeouts are what a client has set for a controller.
type timeouts struct{ action, subscription time.Duration }

// usual are the venue's; longest is the longest that is taken.
const (
	usual   = 35 * time.Second
	longest = 24 * time.Hour
)

// configure sets the time-outs of a controller; what is left out is the usual again.
func configure(_ context.Context, s *socket, r request) answer {
	in := reader{from: r.data}
	t := timeouts{usual, usual}
	for name, field := range map[string]*time.Duration{"ActionTimeout": &t.action, "SubscriptionTimeout": &t.subscription} {
		text := in.text(name, maxName)
		if text == "" {
			continue
		}
		d, ok := parseTime(text)
		in.wrong = in.wrong || !ok || d <= 0 || d > longest
		*field = d
	}
	if in.wrong {
		return answer{code: badData}
	}
	s.timeouts[r.controller] = t
	return answer{}
}

func queryConfigure(_ context.Context, s *socket, r request) answer {
	t := s.configured(r.controller)
	return answer{data: adapters.RenderJSON(struct {
		ActionTimeout, SubscriptionTimeout string
	}{formatTime(t.action), formatTime(t.subscription)})}
}

func (s *socket) configured(controller string) timeouts {
	if t, set := s.timeouts[controller]; set {
		return t
	}
	return timeouts{usual, usual}
}

// bounded gives an action the time that the client has set, if that is less than the service's own.
func (s *socket) bounded(ctx context.Context, controller string) (context.Context, context.CancelFunc) {
	own := s.configured(controller).action
	if own >= s.h.cfg.CallTimeout {
		return context.WithTimeout(ctx, s.h.cfg.CallTimeout)
	}
	return context.WithTimeoutCause(ctx, own, errOwnTimeout)
}

// timeForm is the venue's Time: [days.]hh:mm[:ss[.fraction]].
var timeForm = regexp.MustCompile(`^(?:(\d{1,4})\.)?(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?$`)

func parseTime(text string) (time.Duration, bool) {
	m := timeForm.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	number := func(i int) time.Duration {
		n, _ := strconv.ParseInt(m[i], 10, 64) // digits, or nothing
		return time.Duration(n)
	}
	if number(2) > 23 || number(3) > 59 || number(4) > 59 {
		return 0, false
	}
	d := number(1)*24*time.Hour + number(2)*time.Hour + number(3)*time.Minute + number(4)*time.Second
	scale := time.Second
	for range m[5] {
		scale /= 10
	}
	return d + number(5)*scale, true
}

func formatTime(d time.Duration) string {
	text := fmt.Sprintf("%02d:%02d:%02d", d/time.Hour%24, d/time.Minute%60, d/time.Second%60)
	if days := d / (24 * time.Hour); days > 0 {
		text = fmt.Sprintf("%d.%s", days, text)
	}
	if fraction := d % time.Second; fraction > 0 {
		text += fmt.Sprintf(".%07d", fraction/100)
	}
	return text
}
