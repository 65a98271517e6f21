package journeys

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	neturl "net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"rollbook/bus"
	"rollbook/engine/session"
)

// Where the clients of this test are, as far as the proxy in front of the venues says.
const (
	farAddress = "2001:db8:7777:1234:5678:9abc:def0:1357"
	farAgent   = "Unmistakable-Agent/17.4 (journey)"
)

// behindProxy starts a proxy in front of a venue. Its clients lie about where they are; it says the truth, as proxies do,
// at the end of the same header.
func behindProxy(t *testing.T, at string) string {
	t.Helper()
	to, err := neturl.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
		r.Out.Header.Set("X-Forwarded-For", "198.51.100.99, 127.0.0.1, "+farAddress)
		r.Out.Header.Set("Forwarded", "for=198.51.100.98")
		r.Out.Header.Set("User-Agent", farAgent)
	}})
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// TestWhereFrom: at every venue the address behind the proxy, the agent and the name as it was presented are there for
// whoever has the deployment key; they are in the clear nowhere, and once the user is erased neither they nor the name can
// be had from anything that is on the disk.
func TestWhereFrom(t *testing.T) {
	c := newCollecting(t)
	in := newInstance(t, "--trusted-proxies", "127.0.0.0/8,::1", "--log-level", "debug", "--lockout-first-delay", "1ms", "--trace-endpoint", c.url)
	in.start()
	heard, listened := in.listen()
	clear := map[string]string{"the address": farAddress, "the address's bytes": string(netip.MustParseAddr(farAddress).AsSlice()),
		"the agent": farAgent, "what the client says": "198.51.100.99"}
	names := map[string]string{}
	var sealed []string
	for _, d := range doors {
		name := d.name + ".erasable@people.example"
		secret, presented := in.newUser(d, name), strings.ToUpper(name[:1])+name[1:5]+strings.ToUpper(name[5:])
		names["the name at "+d.name], clear["the presented name at "+d.name] = name, presented
		at := behindProxy(t, in.at(d))
		for _, wrong := range []string{presented, "x" + presented[1:]} {
			if _, o, text, err := d.login(at, wrong, wrongSecret(d, secret)); o != no || err != nil {
				t.Fatalf("%s: a wrong secret: %s, %v: %s", d.name, o, err, text)
			}
		}
		p := mustLogin(t, at, d, presented, secret)
		if p.socket != nil {
			defer p.socket.conn.CloseNow()
		}
		if d.refresh != nil {
			if _, o, err := d.refresh(at, p); o != yes || err != nil {
				t.Fatalf("%s: refresh: %s, %v", d.name, o, err)
			}
		}
		list := in.sessionsOf(name)
		if len(list) != 1 {
			t.Fatalf("%s: %d sessions", d.name, len(list))
		}
		sealed = append(sealed, list[0].ID)
		if got, want := in.cameFrom(list[0].ID), (cameFrom{farAddress, farAgent, presented}); got != want {
			t.Errorf("%s: the client came from %+v, want %+v", d.name, got, want)
		}
	}
	if out := in.run("", "session", "show", sealed[0]); !strings.Contains(out, farAddress) || !strings.Contains(out, farAgent) {
		t.Errorf("session show prints\n%s", out)
	}
	empty := t.TempDir() + "/other.key"
	if err := os.WriteFile(empty, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := in.run("", "session", "show", sealed[0], "--json", "--deployment-key-file", empty); strings.Contains(out, farAddress) {
		t.Errorf("with another deployment key session show prints\n%s", out)
	}

	texts := map[string][]byte{"session list": []byte(in.run("", "session", "list", "--json")), "the metrics": in.metrics()}
	if listened(); !bytes.Contains(heard.Bytes(), []byte("rollbook.command.0.login")) || !bytes.Contains(heard.Bytes(), []byte("rollbook.live.book.0")) {
		t.Fatal("no login was heard on the bus")
	}
	texts["the bus"] = heard.Bytes()
	for end := time.Now().Add(time.Minute); !bytes.Contains(c.all(), []byte("POST genesis login")); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no login was traced")
		}
	}
	in.stop()
	texts["the log"], texts["the traces"] = []byte(in.log.String()), c.all()
	if found := hits(t, in.data, texts, clear); len(found) > 0 {
		t.Errorf("in the clear:\n%s", strings.Join(found, "\n"))
	}
	if found := hits(t, in.data, nil, names); len(found) < len(names) {
		t.Errorf("the search does not find the names that the directory holds: %q", found)
	}
	checkOrigins(t, in.data)

	in.start()
	for _, name := range names {
		if out := in.run("", "user", "erase", "--yes", name); !strings.HasPrefix(out, "erased ") {
			t.Errorf("user erase printed %q", out)
		}
	}
	in.stop()
	for what, name := range names {
		clear[what] = name
	}
	if found := hits(t, in.data, nil, clear); len(found) > 0 {
		t.Errorf("after the users were erased there is still:\n%s", strings.Join(found, "\n"))
	}
}

// checkOrigins finds an origin in every event that has one, as long for a decoy as for a user.
func checkOrigins(t *testing.T, data string) {
	t.Helper()
	b, stop := stoppedBus(t, data)
	defer stop()
	rejected, started, refreshed := map[session.Verdict]map[int]int{}, 0, 0
	readBook(t, t.Context(), b.Book(0), func(_ uint64, _ bus.Page, events []session.Event) {
		for _, e := range events {
			switch e := e.(type) {
			case *session.SessionStarted:
				started++
				if len(e.Origin) == 0 {
					t.Error("a session without an origin")
				}
			case *session.SessionRefreshed:
				refreshed++
				if len(e.Origin) == 0 {
					t.Error("a refresh without an origin")
				}
			case *session.LoginRejected:
				if rejected[e.Verdict] == nil {
					rejected[e.Verdict] = map[int]int{}
				}
				rejected[e.Verdict][len(e.Origin)]++
			}
		}
	})
	known, unknown := rejected[session.Mismatched], rejected[session.NoSuchUser]
	if started < len(doors) || refreshed == 0 || len(known) == 0 || fmt.Sprint(known) != fmt.Sprint(unknown) || known[0] > 0 {
		t.Errorf("%d logins, %d refreshes, wrong secrets by the length of their origin %v, unknown names %v", started, refreshed, known, unknown)
	}
}

// cameFrom is where a session's client was, as `session show` prints it.
type cameFrom struct {
	Address string `json:"address"`
	Agent   string `json:"agent"`
	Name    string `json:"presented_name"`
}

func (in *instance) cameFrom(id string) cameFrom {
	in.t.Helper()
	var shown struct {
		From cameFrom `json:"logged_in_from"`
	}
	if out := in.run("", "session", "show", id, "--json"); json.Unmarshal([]byte(out), &shown) != nil {
		in.t.Fatalf("session show printed %q", out)
	}
	return shown.From
}

// listen takes down whatever goes over the bus, from an operator's connection, until stop is called.
func (in *instance) listen() (heard *bytes.Buffer, stop func()) {
	in.t.Helper()
	url, err := os.ReadFile(filepath.Join(in.data, "bus.url"))
	if err != nil {
		in.t.Fatal(err)
	}
	b, err := bus.Connect(in.t.Context(), bus.ConnectConfig{URL: strings.TrimSpace(string(url)), Creds: filepath.Join(in.data, "operator.nk"),
		Name: "listener", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() { _ = b.Close() })
	heard = &bytes.Buffer{}
	messages, done := make(chan *nats.Msg, 1<<16), make(chan struct{})
	sub, err := b.Conn().ChanSubscribe(">", messages)
	if err == nil {
		err = b.Conn().Flush()
	}
	if err != nil {
		in.t.Fatal(err)
	}
	go func() {
		defer close(done)
		for m := range messages {
			fmt.Fprintf(heard, "%s %v %s\n", m.Subject, m.Header, m.Data)
		}
	}()
	return heard, func() {
		_ = sub.Unsubscribe()
		close(messages)
		<-done
	}
}

// all is what the collector was sent so far.
func (c *collecting) all() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.raw.Bytes())
}

// metrics are those that the instance shows now.
func (in *instance) metrics() []byte {
	in.t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", in.base))
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(text), "rollbook_") {
		in.t.Fatalf("metrics: %v\n%s", err, text)
	}
	return text
}
