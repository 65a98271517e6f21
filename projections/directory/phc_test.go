package directory

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
)

// phcGoldens: the first two are published vectors of the argon2 reference implementation for "password"; the others
// pin this package's own form for ever, since it is what is stored.
var phcGoldens = []struct {
	verifier Verifier
	password string
	cost     Parameters
}{
	{"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password", Parameters{256, 2, 1}},
	{"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password", Parameters{256, 2, 2}},
	{"$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$OunNPHhO2UH5F0+h04B9UaNCV6hVOC0pexgUP8kguzY", good, DefaultParameters},
	{"$argon2id$v=19$m=8,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$dLA+nEkGT+FNCQTxMRfpjBlf97B30qUoRJysAFYo83w", "pa\u00dfwort mit \u00c5ngstr\u00f6m", cheap},
}

func TestPHCGoldens(t *testing.T) {
	t.Parallel()
	for _, golden := range phcGoldens {
		h, err := parsePHC(golden.verifier)
		if err != nil {
			salt := make([]byte, newSalt)
			for i := range salt {
				salt[i] = byte(i)
			}
			made := newPHC(argon2.IDKey, golden.cost, salt, golden.password)
			t.Errorf("%s: %v; the hash is %s", string(golden.verifier), err, string(made.verifier()))
			continue
		}
		if h.Parameters != golden.cost {
			t.Errorf("%v, want %v", h.Parameters, golden.cost)
		}
		if !h.matches(argon2.IDKey, golden.password) {
			t.Errorf("%s does not match its password", string(golden.verifier))
		}
		if h.matches(argon2.IDKey, golden.password+"x") {
			t.Errorf("%s matches another password", string(golden.verifier))
		}
		made := newPHC(argon2.IDKey, h.Parameters, h.salt, golden.password)
		if len(h.hash) == newHash && made.verifier() != golden.verifier {
			t.Errorf("made %s, want %s", string(made.verifier()), string(golden.verifier))
		}
	}
}

func TestPHCRefused(t *testing.T) {
	t.Parallel()
	b64 := base64.RawStdEncoding.EncodeToString
	form := func(cost string, salt, hash int) string {
		return "$argon2id$v=19$" + cost + "$" + b64(make([]byte, salt)) + "$" + b64(make([]byte, hash))
	}
	for _, fine := range []string{
		form("m=8,t=1,p=1", 8, 16), form("m=262144,t=10,p=16", 64, 64), form("m=128,t=1,p=16", 16, 32),
	} {
		if _, err := parsePHC(Verifier(fine)); err != nil {
			t.Errorf("%s: %v", fine, err)
		}
	}
	right := form("m=8,t=1,p=1", 16, 32)
	for _, bad := range []string{
		"", "$", "hidden", right + "$", "x" + right, right[1:], right + "=", right + "\n", " " + right,
		strings.Replace(right, "argon2id", "argon2i", 1), strings.Replace(right, "argon2id", "ARGON2ID", 1),
		strings.Replace(right, "v=19", "v=16", 1), strings.Replace(right, "$v=19", "", 1),
		form("m=262145,t=1,p=1", 16, 32), form("m=4294967295,t=1,p=1", 16, 32), form("m=7,t=1,p=1", 16, 32),
		form("m=127,t=1,p=16", 16, 32), form("m=8,t=11,p=1", 16, 32), form("m=8,t=0,p=1", 16, 32),
		form("m=8,t=1,p=0", 16, 32), form("m=256,t=1,p=17", 16, 32), form("m=256,t=1,p=257", 16, 32),
		form("m=08,t=1,p=1", 16, 32), form("m=+8,t=1,p=1", 16, 32), form("m=-8,t=1,p=1", 16, 32), form("m=8 ,t=1,p=1", 16, 32),
		form("t=1,m=8,p=1", 16, 32), form("m=8,t=1", 16, 32), form("m=8,t=1,p=1,keyid=AA", 16, 32), form("m=,t=1,p=1", 16, 32),
		form("m=8,t=1,p=1", 7, 32), form("m=8,t=1,p=1", 65, 32), form("m=8,t=1,p=1", 16, 15), form("m=8,t=1,p=1", 16, 65),
		"$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAB$" + b64(make([]byte, 32)),       // stray bits
		"$argon2id$v=19$m=8,t=1,p=1$AAAAA\nAAAAAA$" + b64(make([]byte, 32)),     // a line end, which the decoder skips
		"$argon2id$v=19$m=8,t=1,p=1$__________8$" + b64(make([]byte, 32)),       // the other alphabet
		"$argon2id$v=19$m=8,t=1,p=1$" + b64(make([]byte, 1<<20)) + "$AAAAAAAAA", // huge
	} {
		if _, err := parsePHC(Verifier(bad)); !errors.Is(err, ErrBadVerifier) {
			t.Errorf("%.80q: error %v, want ErrBadVerifier", bad, err)
		} else if len(bad) > 40 && strings.Contains(err.Error(), bad[len(bad)-20:]) {
			t.Errorf("the error shows the text: %v", err)
		}
	}
}

// FuzzParsePHC: nothing panics, what is read is within the bounds, and has exactly one spelling.
func FuzzParsePHC(f *testing.F) {
	for _, golden := range phcGoldens {
		f.Add(string(golden.verifier))
	}
	f.Add("$argon2id$v=19$m=4294967296,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAB$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$$$$$")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parsePHC(Verifier(text))
		if err != nil {
			if !errors.Is(err, ErrBadVerifier) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if !h.valid() || len(h.salt) < minSalt || len(h.salt) > maxSalt || len(h.hash) < minHash || len(h.hash) > maxHash {
			t.Fatalf("out of bounds: %+v", h)
		}
		if string(h.verifier()) != text {
			t.Fatalf("read from %q, written as %q", text, string(h.verifier()))
		}
	})
}

// TestVerifierHides: no way of printing or logging shows a verifier.
func TestVerifierHides(t *testing.T) {
	t.Parallel()
	secret := phcGoldens[0].verifier
	record := Record{User: "u-1", Names: []string{"jane"}, Verifier: secret}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "verifier", secret, "record", record)
	text := log.String() + fmt.Sprintf("%v %+v %#v %s %q", secret, record, record, secret, secret)
	if strings.Contains(text, "c29tZXNhbHQ") || strings.Contains(text, "argon2id") {
		t.Errorf("shown: %s", text)
	}
	if strings.Contains(log.String(), "jane") {
		t.Errorf("a name is logged: %s", log.String())
	}
	if Verifier("").String() != "" || secret.String() != "hidden" {
		t.Error("a verifier and none must look different")
	}
}
