package journeys

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
)

// forms are the ways in which a secret could have been written down.
func forms(secret string) map[string][]byte {
	b := []byte(secret)
	all := map[string][]byte{
		"raw": b, "hex": []byte(hex.EncodeToString(b)), "HEX": []byte(strings.ToUpper(hex.EncodeToString(b))),
		"query": []byte(url.QueryEscape(secret)),
	}
	// In base64 a secret looks different at each of the three offsets it can begin at: what is between the letters that
	// its neighbours share is looked for.
	for offset := range 3 {
		padded := append(bytes.Repeat([]byte{'x'}, offset), b...)
		for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			text := enc.EncodeToString(padded)
			from := (offset*8 + 5) / 6
			to := len(padded) * 8 / 6
			all[fmt.Sprintf("%s+%d", name, offset)] = []byte(text[from:to])
		}
	}
	return all
}

// hits looks for secrets in everything below a directory and in further texts, also in what S2 hides.
func hits(t *testing.T, dir string, texts map[string][]byte, secrets map[string]string) []string {
	t.Helper()
	var found []string
	look := func(where string, data []byte) {
		for name, secret := range secrets {
			for form, needle := range forms(secret) {
				if bytes.Contains(data, needle) {
					found = append(found, fmt.Sprintf("%s in %s, %s", name, where, form))
				}
			}
		}
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		look(path, data)
		if plain, err := io.ReadAll(s2.NewReader(bytes.NewReader(data))); err == nil {
			look(path+" (decompressed)", plain)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 5 {
		t.Fatalf("only %d files below the data directory", files)
	}
	for where, data := range texts {
		look(where, data)
	}
	return found
}

// TestNoSecretAnywhere hands out and presents passwords and tokens in every way the venue knows, and then searches the
// whole data directory, the log, the metrics and the operator's lists for them.
func TestNoSecretAnywhere(t *testing.T) {
	in := newInstance(t, "--demo", "--log-level", "debug")
	in.start()
	secrets := map[string]string{"the password": seedPassword, "a wrong password": "notThePassword-8812", "a password of nobody": "nobodysPassword-1177",
		"the second user's password": "eves-own-long-password", "the changed password": "eves-next-long-password"}
	keep := func(what string, m message) {
		for _, key := range []string{"SESSION_AUTH_TOKEN", "REFRESH_AUTH_TOKEN"} {
			if s := m.text(key); s != "" {
				secrets[fmt.Sprintf("%s of %s %d", key, what, len(secrets))] = s
			}
		}
	}
	post := func(path string, header map[string]string, body string) message {
		return mustCall(t, "POST", in.genesis(path), header, body)
	}
	credentials := func(name, password string) string {
		return fmt.Sprintf(`{"DETAILS": {"USER_NAME": %q, "PASSWORD": %q}}`, name, password)
	}
	in.run("eves-own-long-password\n", "user", "add", "eve")
	for range 5 {
		login := post("/event-login-auth", nil, credentials("JaneDee", seedPassword))
		keep("a login", login)
		refresh := post("/event-login-auth", nil, fmt.Sprintf(`{"DETAILS": {"REFRESH_AUTH_TOKEN": %q}}`, login.text("REFRESH_AUTH_TOKEN")))
		keep("a refresh", refresh)
		mustCall(t, "GET", in.genesis("/resources-request"), map[string]string{"SESSION_AUTH_TOKEN": refresh.text("SESSION_AUTH_TOKEN")}, "")
		post("/event-logout", map[string]string{"SESSION_AUTH_TOKEN": refresh.text("SESSION_AUTH_TOKEN")}, "")
	}
	keep("a login", post("/event-login-auth", nil, credentials("eve", "eves-own-long-password")))
	in.run("eves-next-long-password\n", "user", "passwd", "eve")
	keep("a login", post("/event-login-auth", nil, credentials("eve", "eves-next-long-password")))
	post("/event-login-auth", nil, credentials("JaneDee", "notThePassword-8812"))
	post("/event-login-auth", nil, credentials("nobody", "nobodysPassword-1177"))
	post("/event-login-auth", nil, credentials("nobodysPassword-1177", "x")) // typed into the wrong box
	for _, path := range []string{"/no-such-thing?PASSWORD=" + url.QueryEscape("notThePassword-8812"), "/event-login-auth?DETAILS[PASSWORD]=nobodysPassword-1177"} {
		_, _ = call("GET", in.genesis(path), map[string]string{"SESSION_AUTH_TOKEN": "nobodysPassword-1177"}, "")
	}
	_, _ = call("POST", in.genesis("/event-login-auth"), nil, `{"DETAILS": {"USER_NAME": "JaneDee", "PASSWORD": "notThePassword-8812"`)
	s := in.dial("/")
	keep("a socket", s.ask(message{"MESSAGE_TYPE": "EVENT_LOGIN_AUTH", "DETAILS": message{"USER_NAME": "JaneDee", "PASSWORD": seedPassword}}))

	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", in.base))
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || !bytes.Contains(metrics, []byte("rollbook_")) {
		t.Fatalf("metrics: %v\n%s", err, metrics)
	}
	texts := map[string][]byte{
		"the metrics": metrics, "user list": []byte(in.run("", "user", "list", "--json")),
		"session list": []byte(in.run("", "session", "list", "--json")),
	}
	in.stop()
	log, _, _ := strings.Cut(in.log.String(), "\x00")
	texts["the log"] = []byte(withoutDemoScreen(log))
	if len(secrets) < 20 {
		t.Fatalf("only %d secrets were handed out", len(secrets))
	}
	if found := hits(t, in.data, texts, secrets); len(found) > 0 {
		t.Errorf("%d secrets are where they must not be:\n%s", len(found), strings.Join(found, "\n"))
	}

	// The search itself: a secret that was planted is found in every form.
	canary := "canary-Zq8vB2-token/with+signs?"
	n := 0
	for form, data := range forms(canary) {
		n++
		if err := os.WriteFile(filepath.Join(in.data, fmt.Sprintf("planted-%d", n)), append([]byte("before "), append(data, " after"...)...), 0o600); err != nil {
			t.Fatal(err)
		}
		if found := hits(t, in.data, nil, map[string]string{"canary": canary}); len(found) < n {
			t.Errorf("the canary is not found as %s", form)
		}
	}
	var packed bytes.Buffer
	w := s2.NewWriter(&packed)
	_, _ = w.Write([]byte("xx" + canary))
	_ = w.Close()
	if err := os.WriteFile(filepath.Join(in.data, "planted-s2"), packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := hits(t, in.data, map[string][]byte{"a log": []byte("x=" + canary)}, map[string]string{"canary": canary}); len(got) < n+2 {
		t.Errorf("the canary is found %d times of %d", len(got), n+2)
	}
}

// withoutDemoScreen takes out what the demo prints on purpose: its user's well-known password, on the screen that says
// what to try.
func withoutDemoScreen(log string) string {
	var rest []string
	for _, line := range strings.Split(log, "\n") {
		if strings.HasPrefix(line, "time=") || strings.HasPrefix(line, "{") {
			rest = append(rest, line)
		}
	}
	return strings.Join(rest, "\n")
}
