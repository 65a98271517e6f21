package journeys

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collecting is a collector of spans, as OTLP over HTTP reaches one.
type collecting struct {
	url string

	mu    sync.Mutex
	raw   bytes.Buffer   // guarded by mu: all that came
	spans []*traces.Span // guarded by mu
}

func newCollecting(t *testing.T) *collecting {
	c := &collecting{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw.Write(body)
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// of are the spans of a trace, by name. A command that is sent again, since its answer takes long, is decided again.
func (c *collecting) of(trace string) map[string][]*traces.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string][]*traces.Span{}
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) == trace {
			found[s.Name] = append(found[s.Name], s)
		}
	}
	return found
}

// await waits until a trace has spans of these names.
func (c *collecting) await(t *testing.T, trace string, names ...string) map[string][]*traces.Span {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		found := c.of(trace)
		missing := ""
		for _, name := range names {
			if found[name] == nil {
				missing = name
			}
		}
		if missing == "" {
			return found
		}
		if time.Now().After(end) {
			t.Fatalf("the trace has no span %q: %v", missing, found)
		}
	}
}

// caller is a trace that a caller has begun.
func caller(n byte) (trace, parent, header string) {
	trace, parent = strings.Repeat(fmt.Sprintf("%02x", 0xa0+n), 16), strings.Repeat(fmt.Sprintf("%02x", 0x10+n), 8)
	return trace, parent, "00-" + trace + "-" + parent + "-01"
}

// TestOneTraceForALogin: a login is one trace, from the caller's span to the page in the pod's view, and every link of
// it is a header that went over a real connection.
func TestOneTraceForALogin(t *testing.T) {
	c := newCollecting(t)
	in := newInstance(t, "--demo", "--trace-endpoint", c.url)
	in.start()
	trace, parent, header := caller(1)
	credentials := fmt.Sprintf(`{"DETAILS": {"USER_NAME": "JaneDee", "PASSWORD": %q}}`, seedPassword)
	login := mustCall(t, "POST", in.genesis("/event-login-auth"), map[string]string{"Traceparent": header, "Tracestate": "vendor=state"}, credentials)
	if login.text("SESSION_AUTH_TOKEN") == "" {
		t.Fatalf("the login gave %v", login)
	}
	names := []string{"POST genesis login", "submit login", "decide COMMANDS", "apply BOOK_0", "await page"}
	spans := c.await(t, trace, names...)
	if len(spans) != len(names) {
		t.Errorf("the trace has more than the login: %v", spans)
	}
	for _, step := range []struct{ child, of string }{
		{"submit login", "POST genesis login"}, {"decide COMMANDS", "submit login"},
		{"apply BOOK_0", "decide COMMANDS"}, {"await page", "submit login"},
	} {
		within := func(child, of *traces.Span) bool { return bytes.Equal(child.ParentSpanId, of.SpanId) }
		for _, child := range spans[step.child] {
			if !slices.ContainsFunc(spans[step.of], func(of *traces.Span) bool { return within(child, of) }) {
				t.Errorf("%q is not in %q", step.child, step.of)
			}
		}
	}
	if got := hex.EncodeToString(spans["POST genesis login"][0].ParentSpanId); got != parent {
		t.Errorf("the request is in span %s of the caller's, not %s", got, parent)
	}
	if before, after := spans["decide COMMANDS"][0].TraceState, spans["apply BOOK_0"][0].TraceState; before != "vendor=state" || after != "" {
		t.Errorf("the trace's state is %q at the writer and %q behind the book, which keeps none", before, after)
	}

	// A caller that does not record its trace has no spans here either: those of a later trace are all there is.
	quiet, _, header := caller(2)
	mustCall(t, "POST", in.genesis("/event-login-auth"), map[string]string{"Traceparent": strings.TrimSuffix(header, "1") + "0"}, credentials)
	last, _, header := caller(3)
	mustCall(t, "POST", in.genesis("/event-login-auth"), map[string]string{"Traceparent": header}, credentials)
	in.stop()
	c.await(t, last, names...)
	if got := c.of(quiet); len(got) != 0 {
		t.Errorf("a trace that its caller does not record has %v", got)
	}
}

// TestNoSecretInTraces presents passwords and tokens in every way it can think of, also where none belongs, and then
// searches all that was exported for them, and for what clients said of themselves.
func TestNoSecretInTraces(t *testing.T) {
	c := newCollecting(t)
	in := newInstance(t, "--demo", "--trace-endpoint", c.url)
	in.start()
	const wrong, stray = "notThePassword-8812", "nobodysPassword-1177"
	secrets := map[string]string{"the password": seedPassword, "a wrong password": wrong, "a password out of place": stray}
	keep := func(what string, m message) {
		for _, key := range []string{"SESSION_AUTH_TOKEN", "REFRESH_AUTH_TOKEN", "accessToken", "refreshToken"} {
			if s := m.text(key); s != "" {
				secrets[key+" of "+what] = s
			}
		}
	}
	post := func(header map[string]string, body string) message {
		return mustCall(t, "POST", in.genesis("/event-login-auth"), header, body)
	}
	credentials := func(name, password string) string {
		return fmt.Sprintf(`{"DETAILS": {"USER_NAME": %q, "PASSWORD": %q}}`, name, password)
	}
	login := post(nil, credentials("JaneDee", seedPassword))
	keep("a login", login)
	refresh := post(nil, fmt.Sprintf(`{"DETAILS": {"REFRESH_AUTH_TOKEN": %q}}`, login.text("REFRESH_AUTH_TOKEN")))
	keep("a refresh", refresh)
	post(nil, credentials("JaneDee", wrong))
	post(nil, credentials(stray, "x"))
	_, _ = call(stray, in.genesis("/"+stray), nil, "")
	for _, path := range []string{"/no-such-thing?PASSWORD=" + url.QueryEscape(stray), "/event-login-auth?DETAILS[PASSWORD]=" + stray} {
		_, _ = call("GET", in.genesis(path), map[string]string{"SESSION_AUTH_TOKEN": stray, "User-Agent": stray, "Baggage": "password=" + stray}, "")
	}
	_, _ = call("POST", in.genesis("/event-login-auth"), nil, credentials("JaneDee", wrong)[:40])
	venue := fmt.Sprintf("http://127.0.0.1:%d", in.base+5)
	pair := mustCall(t, "POST", venue+"/auth/token", nil, fmt.Sprintf(`{"login":"JaneDee","password":%q}`, seedPassword))
	keep("a pair", pair)
	one := mustCall(t, "POST", venue+"/external/token", map[string]string{"Authorization": "Bearer " + pair.text("accessToken")}, "")
	secrets["a one-time token"] = one.text("token")
	s := in.dial("/")
	keep("a socket", s.ask(message{"MESSAGE_TYPE": "EVENT_LOGIN_AUTH", "DETAILS": message{"USER_NAME": "JaneDee", "PASSWORD": seedPassword}}))
	mustCall(t, "POST", in.genesis("/event-logout"), map[string]string{"SESSION_AUTH_TOKEN": refresh.text("SESSION_AUTH_TOKEN")}, "")
	trace, _, header := caller(4)
	post(map[string]string{"Traceparent": header}, credentials("JaneDee", seedPassword))
	in.stop()
	c.await(t, trace, "POST genesis login", "decide COMMANDS", "apply BOOK_0")

	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.spans) < 25 || len(secrets) < 10 {
		t.Errorf("%d spans and %d secrets prove nothing", len(c.spans), len(secrets))
	}
	secrets["a name"], secrets["an address"] = "JaneDee", "127.0.0.1"
	search := func() (found []string) {
		for what, secret := range secrets {
			for form, needle := range forms(secret) {
				if bytes.Contains(c.raw.Bytes(), needle) {
					found = append(found, what+" as "+form)
				}
			}
		}
		return found
	}
	if found := search(); len(found) > 0 {
		t.Errorf("in the traces there is what must not be: %v", found)
	}
	c.raw.WriteString(wrong)
	if len(search()) == 0 {
		t.Error("what is planted is not found")
	}
}
