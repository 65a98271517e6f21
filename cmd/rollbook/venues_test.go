package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"rollbook/adapters/advauth"
	"rollbook/adapters/nebula"
	"rollbook/adapters/traderevolution"
	"rollbook/adapters/zenith"
	"rollbook/engine/session"
)

// startDemo runs a demo in this process until the test ends, with these settings beside.
func startDemo(t testing.TB, args ...string) *house {
	t.Helper()
	var c cli
	if _, err := parserOf(t, &c).Parse(append([]string{"serve", "--demo", "--port-base", "0", "--data", t.TempDir()}, args...)); err != nil {
		t.Fatal(err)
	}
	if err := c.Serve.check(everything); err != nil {
		t.Fatal(err)
	}
	dir, _, err := c.Serve.directory()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h, err := buildHouse(ctx, &c.Serve.serveSettings, everything, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- h.run(ctx, h.furnishDemo, func() error { close(ready); return nil }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the demo ended with %v", err)
		}
		h.close()
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("the demo did not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the demo does not start")
	}
	return h
}

func (h *house) door(t testing.TB, venue session.Venue) *door {
	t.Helper()
	for _, d := range h.doors {
		if d.venue == venue {
			return d
		}
	}
	t.Fatalf("%s is not served", venue)
	return nil
}

// TestDemoServesEveryVenue logs the demo's user in at each, with what the screen says, over TLS.
func TestDemoServesEveryVenue(t *testing.T) {
	dir := t.TempDir()
	cert, key := issueCertificate(t, 1)
	putFile(t, filepath.Join(dir, "cert.pem"), cert)
	putFile(t, filepath.Join(dir, "key.pem"), key)
	h := startDemo(t, "--tls-cert", filepath.Join(dir, "cert.pem"), "--tls-key", filepath.Join(dir, "key.pem"))
	trust := &tls.Config{RootCAs: x509.NewCertPool()}
	trust.RootCAs.AppendCertsFromPEM(cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	dialer := &websocket.Dialer{TLSClientConfig: trust, Subprotocols: []string{"ZenithJson"}, HandshakeTimeout: 10 * time.Second}

	post := func(venue session.Venue, path, body, field string) string {
		t.Helper()
		request, err := http.NewRequest(http.MethodPost, h.doorURL(h.door(t, venue), "http")+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		var reply map[string]any
		if err != nil || json.Unmarshal(text, &reply) != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s (%v)", venue, answer.StatusCode, text, err)
		}
		token, _ := reply[field].(string)
		if token == "" {
			t.Fatalf("%s: no %s in %s", venue, field, text)
		}
		return token
	}
	frame := func(venue session.Venue, path, body string) string {
		t.Helper()
		conn, _, err := dialer.Dial(h.doorURL(h.door(t, venue), "ws")+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if err := conn.WriteMessage(websocket.TextMessage, []byte(body)); err != nil {
			t.Fatal(err)
		}
		_, text, err := conn.ReadMessage()
		if err != nil {
			t.Fatalf("%s: %v", venue, err)
		}
		return string(text)
	}

	post(session.Genesis, "/event-login-auth", `{"DETAILS":{"USER_NAME":"JaneDee","PASSWORD":"beONneON*74"}}`, "SESSION_AUTH_TOKEN")
	post(session.TraderEvolution, "/proftrading/rest/auth/token", `{"login":"JaneDee","password":"beONneON*74"}`, "accessToken")
	post(session.AdvAuth, "/login", `{"UserLogin":"JaneDee","ApiKey":"`+h.demoKeys[session.AdvAuth].Key+`"}`, "Token")
	if reply := frame(session.Zenith, "/Zenith", `{"Controller":"Auth","Topic":"AuthOwner","TransactionID":1,"Data":{"Provider":"Rollbook","ClientID":"demo",`+
		`"UserName":"JaneDee","Password":"beONneON*74"}}`); !strings.Contains(reply, `"Result":"Success"`) {
		t.Errorf("zenith: %s", reply)
	}
	token := post(session.Nebula, "/trader-api/auth/token", `{"email":"JaneDee","password":"beONneON*74"}`, "token")
	if reply := frame(session.Nebula, "/", `{"q":"v1/broker.oms/createSession","sid":1,"d":{"token":"`+token+`"}}`); !strings.Contains(reply, `"sig":1`) {
		t.Errorf("nebula by token: %s", reply)
	}
	now := time.Now().UnixMilli()
	mac := hmac.New(sha256.New, []byte(h.demoKeys[session.Nebula].Key))
	fmt.Fprintf(mac, `"apiKey":"JaneDee","timestamp":"%d"`, now)
	if reply := frame(session.Nebula, "/", fmt.Sprintf(`{"q":"exchange.market/createSession","sid":1,"d":{"apiKey":"JaneDee","timestamp":%d,"signature":"%s"}}`,
		now, hex.EncodeToString(mac.Sum(nil)))); !strings.Contains(reply, `"sig":1`) {
		t.Errorf("nebula by API key: %s", reply)
	}
	venues := map[session.Venue]bool{}
	user, _ := h.directory.Find(demoName)
	for _, s := range h.sessions.ByUser(user) {
		venues[s.Venue] = true
	}
	for _, venue := range []session.Venue{session.Genesis, session.TraderEvolution, session.AdvAuth, session.Zenith, session.Nebula} {
		if !venues[venue] {
			t.Errorf("there is no session of %s: %v", venue, venues)
		}
	}
	screen := h.demoScreen(true)
	for _, want := range []string{"  Zenith           wss://", "  Genesis          https://", "  operations       http://", h.demoKeys[session.AdvAuth].Key} {
		if !strings.Contains(screen, want) {
			t.Errorf("the screen lacks %q:\n%s", want, screen)
		}
	}
}

// TestDemoScreenOfOneVenue: what is not served is not on the screen.
func TestDemoScreenOfOneVenue(t *testing.T) {
	h := startDemo(t, "--venues", "advauth")
	screen := h.demoScreen(false)
	if strings.Contains(screen, "Genesis") || strings.Contains(screen, "Nebula") || !strings.Contains(screen, "ApiKey") || strings.ContainsAny(screen, "\t") {
		t.Errorf("the screen is\n%s", screen)
	}
	for _, left := range []string{"{at}", "{name}", "{base}", "{key}", "{rollbook}"} {
		if strings.Contains(screen, left) {
			t.Errorf("%s is left on the screen", left)
		}
	}
}

// TestVenueDefaultsAreThePackagesOwn holds the command line's defaults to what the packages document.
func TestVenueDefaultsAreThePackagesOwn(t *testing.T) {
	var c cli
	if _, err := parserOf(t, &c).Parse([]string{"serve"}); err != nil {
		t.Fatal(err)
	}
	s := &c.Serve.venueSettings
	served, err := s.served()
	if err != nil || len(served) != 5 {
		t.Errorf("%v are served: %v", served, err)
	}
	n, err := s.nebulaConfig()
	if err != nil {
		t.Fatal(err)
	}
	a := s.advAuthConfig([32]byte{1})
	if other := s.advAuthConfig([32]byte{2}); a.ChallengeKey == other.ChallengeKey || a.ChallengeKey == [32]byte{} {
		t.Error("the challenge key is not the deployment's")
	}
	a.ChallengeKey = [32]byte{}
	for venue, pair := range map[string][2]any{
		"traderevolution": {s.teConfig(), traderevolution.DefaultConfig()}, "advauth": {a, advauth.DefaultConfig()},
		"zenith": {s.zenithConfig(), zenith.DefaultConfig()}, "nebula": {n, nebula.DefaultConfig()},
	} {
		for i := range reflect.TypeOf(pair[0]).NumField() {
			mine, theirs := reflect.ValueOf(pair[0]).Field(i), reflect.ValueOf(pair[1]).Field(i)
			if mine.Kind() != reflect.Func && !reflect.DeepEqual(mine.Interface(), theirs.Interface()) {
				t.Errorf("%s: %s is %v, not %v", venue, reflect.TypeOf(pair[0]).Field(i).Name, mine, theirs)
			}
		}
	}
}

// TestIssuers reads the two settings that list issuers.
func TestIssuers(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	putFile(t, secret, []byte("s3cret\n"))
	var c cli
	_, err := parserOf(t, &c).Parse([]string{"serve",
		"--zenith-issuers", "https://a.example/ provider=Corp client=x alias=corp; https://b.example/ provider=Bearer client=y by-email reusable max-age=1h secret-file=" + secret,
		"--nebula-issuers", "https://c.example/ audience=z by-email"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Serve.check(everything); err != nil {
		t.Fatal(err)
	}
	issuers, err := c.Serve.zenithIssuers()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]zenith.OIDCConfig{"Corp": {Issuer: "https://a.example/", ClientID: "x", Alias: "corp"},
		"Bearer": {Issuer: "https://b.example/", ClientID: "y", ByEmail: true, Reusable: true, MaxAge: time.Hour, ClientSecret: "s3cret"}}
	if !reflect.DeepEqual(issuers, want) {
		t.Errorf("%+v", issuers)
	}
	n, err := c.Serve.nebulaConfig()
	if err != nil || !reflect.DeepEqual(n.Issuers, []nebula.Issuer{{URL: "https://c.example/", Audience: "z", ByEmail: true}}) {
		t.Errorf("%+v, %v", n.Issuers, err)
	}
	for _, bad := range []string{"", " ", "https://a.example/ alias", "https://a.example/ by-email=yes", "https://a.example/ alias=a alias=b", "https://a.example/ alias="} {
		if _, err := parseIssuer(bad, "alias", "by-email"); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestRoutesAreBounded: whatever clients ask for, the metrics have a few classes.
func TestRoutesAreBounded(t *testing.T) {
	var c cli
	if _, err := parserOf(t, &c).Parse([]string{"serve"}); err != nil {
		t.Fatal(err)
	}
	doors, err := c.Serve.doors()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]string{
		"traderevolution /proftrading/rest/auth/token": "login", "traderevolution //auth/token/refresh/": "refresh",
		"traderevolution /proftrading/restless": "other", "traderevolution /external/token": "issue",
		"advauth /AktionNEXT/API/Login/AdvAuth": "answer", "advauth /api/login": "login", "advauth /apilogin": "other",
		"zenith /zenith/": "socket", "nebula /trader-api/auth/token": "login", "nebula /x": "other", "nebula /": "socket",
	}
	for _, d := range doors {
		for line, want := range known {
			if path, ok := strings.CutPrefix(line, d.venue.String()+" "); ok && d.route(path) != want {
				t.Errorf("%s is %s, not %s", line, d.route(path), want)
			}
		}
		classes := map[string]bool{}
		for i := range 1000 {
			classes[d.route("/"+string(bytes.Repeat([]byte{byte('a' + i%26)}, 1+i%7))+fmt.Sprint(i))] = true
		}
		if len(classes) != 1 || !classes["other"] {
			t.Errorf("%s: unknown paths are %v", d.venue, classes)
		}
	}
}
