package directory

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
)

func TestPasswordPolicy(t *testing.T) {
	t.Parallel()
	names := []string{"jane.dee.trading@example.com"}
	for _, c := range []struct {
		least    int
		password string
		fine     bool
	}{
		{0, strings.Repeat("x1", 7), false},           // 14
		{0, strings.Repeat("x1", 7) + "y", true},      // 15
		{0, strings.Repeat("\u00e5", 14), false},      // 28 bytes, 14 characters
		{0, strings.Repeat("\u00e5", 15), true},       //
		{0, strings.Repeat("a\u030a", 14), false},     // 28 code points, 14 once composed
		{0, "               ", true},                  // no rules of composition
		{8, "ab7 qz\u00e9\u4e16", true},               //
		{8, "ab7 qz\u00e9", false},                    //
		{8, "password1", false},                       // guessed first
		{8, "PassWord1", false},                       // in any case
		{0, "Jane.Dee.Trading@Example.com", false},    // the login name
		{0, "Jane.Dee.Trading@Example.com!", true},    //
		{0, "correctHorseBatteryStaple", false},       //
		{0, strings.Repeat("z9", 32), true},           // 64
		{0, strings.Repeat("\u4e16", 256), true},      // 256 characters, 768 bytes
		{0, strings.Repeat("z", 1024), true},          //
		{0, strings.Repeat("z", 1025), false},         //
		{0, strings.Repeat("a\u030a", 512), true},     // 1536 bytes, 1024 once composed
		{0, strings.Repeat("z", 1<<20), false},        //
		{0, "not \xff utf-8, but long enough", false}, //
	} {
		err := PasswordPolicy{MinLength: c.least}.Check(c.password, names)
		if c.fine != (err == nil) || err != nil && !errors.Is(err, ErrPassword) {
			t.Errorf("at least %d: %.30q: %v", c.least, c.password, err)
		}
		if err != nil && len(c.password) > 8 && strings.Contains(err.Error(), c.password) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	for least, fine := range map[int]bool{0: true, 8: true, 15: true, 256: true, 7: false, 1: false, -1: false, 257: false} {
		if err := (PasswordPolicy{MinLength: least}).Validate(); fine != (err == nil) {
			t.Errorf("a policy of %d: %v", least, err)
		}
	}
}

// TestMostGuessed: every entry is written as it is compared, can be reached under some policy, and is refused.
func TestMostGuessed(t *testing.T) {
	t.Parallel()
	for guess := range strings.FieldsSeq(mostGuessed) {
		if fold(guess) != guess || len(guess) < 8 {
			t.Errorf("%s is never compared equal, or too short to matter", guess)
		}
		if err := (PasswordPolicy{MinLength: 8}).Check(strings.ToUpper(guess), []string{"jane"}); !errors.Is(err, ErrPassword) {
			t.Errorf("%s: error %v", guess, err)
		}
	}
}

// TestPasswordExactness: what differs anywhere does not match; what is the same text in another Unicode form does.
func TestPasswordExactness(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("abcdefgh", 128) // 1024 bytes
	at := func(n int) string { return long[:n-1] + "#" + long[n:] }
	s := &Store{cfg: StoreConfig{Parameters: cheap}}
	matches := func(password, against string) bool {
		h, err := parsePHC(s.hash(against))
		must(t, err)
		normal, ok := normalise(password)
		return ok && h.matches(argon2.IDKey, normal)
	}
	for _, c := range []struct {
		password, against string
		same              bool
	}{
		{long, long, true},
		{at(73), long, false}, {at(129), long, false}, {at(56), long, false}, {at(1024), long, false},
		{long[:1023], long, false}, {long + "a", long, false}, {long[:72], long[:73], false}, {long[:128], long[:129], false},
		{"Seventeen tall ships", good, false}, {good + " ", good, false}, {" " + good, good, false}, {good + "\x00", good, false},
		{"a\u030angstrom unit sized", "\u00e5ngstrom unit sized", true}, {"\u212bngstrom unit sized", "\u00c5ngstrom unit sized", true},
		{"\ufb01fteen tall ships", "fifteen tall ships", false}, // NFC, not NFKC
		{"", good, false},
	} {
		if matches(c.password, c.against) != c.same {
			t.Errorf("%.30q (%d bytes) against %.30q (%d bytes): want %v", c.password, len(c.password), c.against, len(c.against), c.same)
		}
	}
}
