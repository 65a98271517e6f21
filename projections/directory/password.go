package directory

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// passwordForm is the form in which passwords are hashed, so that the same characters typed on another keyboard are
// the same password (NIST SP 800-63B-4, 3.1.1.2). It is a part of every stored verifier and never changes. Canonical
// composition, not a compatibility form: what looks different stays different. Nothing else is done to a password: no
// trimming, no case change, no cut (OWASP ASVS 5.0, 6.2.8).
const passwordForm = norm.NFC

// maxPassword bounds a normalised password, in bytes.
const maxPassword = 1024

// ErrPassword says that a new password is not acceptable; the text says why, without the password. Ask for another.
var ErrPassword = errors.New("the password cannot be used")

// PasswordPolicy is what is asked of a new password (NIST SP 800-63B-4, 3.1.1.2; OWASP ASVS 5.0, 6.2). There are no
// rules of composition, and a password does not age.
type PasswordPolicy struct {
	// MinLength is the least number of Unicode code points, after normalisation. Zero: 15, what NIST asks of a
	// password that stands alone. Less than 8 is refused.
	MinLength int
}

// Validate says whether the policy may be used.
func (p PasswordPolicy) Validate() error {
	if p.MinLength != 0 && p.MinLength < 8 {
		return fmt.Errorf("a password policy of at least %d characters: fewer than 8 are never enough", p.MinLength)
	}
	if p.MinLength > maxPassword/utf8.UTFMax {
		return fmt.Errorf("a password policy of at least %d characters: passwords end at %d bytes", p.MinLength, maxPassword)
	}
	return nil
}

// Check says whether the password may become that of a user with these login names: nil, or an [ErrPassword] with the
// reason.
func (p PasswordPolicy) Check(password string, names []string) error {
	least := p.MinLength
	if least == 0 {
		least = 15
	}
	if !utf8.ValidString(password) {
		return fmt.Errorf("%w: it is not valid UTF-8", ErrPassword)
	}
	normal, ok := normalise(password)
	if !ok {
		return fmt.Errorf("%w: it is longer than %d bytes", ErrPassword, maxPassword)
	}
	if n := utf8.RuneCountInString(normal); n < least {
		return fmt.Errorf("%w: it has %d characters, and at least %d are needed", ErrPassword, n, least)
	}
	folded := fold(normal)
	for _, name := range names {
		if folded == fold(name) {
			return fmt.Errorf("%w: it is the login name", ErrPassword)
		}
	}
	for guess := range strings.FieldsSeq(mostGuessed) {
		if folded == guess {
			return fmt.Errorf("%w: it is one of the first that are guessed", ErrPassword)
		}
	}
	return nil
}

// normalise gives the form that is hashed; false: it is too long, and then it matches nothing. The bound comes first,
// so that a huge password costs nothing; composing makes a text at most three times as long, or as short.
func normalise(password string) (string, bool) {
	if len(password) > 3*maxPassword {
		return "", false
	}
	normal := passwordForm.String(password)
	if len(normal) > maxPassword {
		return "", false
	}
	return normal, true
}

// fold makes spellings that differ in case alone equal. A caser has state, so each call makes its own.
func fold(text string) string { return passwordForm.String(cases.Fold().String(text)) }

// mostGuessed is, folded, what guessing begins with among the passwords that the policy's lengths let through.
const mostGuessed = `
password password1 password12 password123 password1234 password12345 password123456 passwordpassword password1password1
passw0rd passw0rd1 p@ssw0rd p@ssword p@ssword1 letmein1 letmeinplease welcome1 welcome123 welcome2welcome changeme
changemechangeme changemenow changemeplease administrator administrator1 administratoradministrator iloveyou iloveyou1
iloveyouiloveyou iloveyoumorethananything iloveyouforever trustno1 sunshine princess princess1 football football1
baseball superman batman123 starwars whatever computer internet michelle jennifer dragon123 monkey123 shadow123
master123 qwertyui qwertyuiop qwertyuiopasdfgh qwertyuiopasdfghjkl qwertyuiopasdfghjklzxcvbnm qwerty12 qwerty123
qwerty1234 qwerty12345 qwerty123456 qwertyqwerty qwertyqwertyqwerty 1qaz2wsx 1qaz2wsx3edc 1qaz2wsx3edc4rfv
1qaz2wsx3edc4rfv5tgb 1q2w3e4r 1q2w3e4r5t 1q2w3e4r5t6y 1q2w3e4r5t6y7u8i 1q2w3e4r5t6y7u8i9o0p zaq12wsx qazwsxedc
qazwsxedcrfvtgb qazwsxedcrfvtgbyhnujm asdfghjk asdfghjkl asdfasdfasdfasdf asdfghjklasdfghjkl zxcvbnm1 abcd1234
abc12345 abc123abc123abc123 abcdefgh abcdefghijklmno abcdefghijklmnop abcdefghijklmnopqrstuvwxyz aaaaaaaa
aaaaaaaaaaaaaaa aaaaaaaaaaaaaaaa 12345678 123456789 1234567890 0123456789 0987654321 987654321 87654321 123123123
12341234 1234512345 123456123456 123456789a 123456789q 12345678910 1234567891 123456789123 123456789012345
1234567890123456 12345678901234567890 123456789123456 123456789123456789 123412341234123412341234 1234123412341234
123123123123123 111222333444555 112233445566778899 11223344 1122334455 11111111 1111111111 111111111111111
1111111111111111 00000000 0000000000 000000000000000 0000000000000000 88888888 99999999 22222222 correcthorsebattery
correcthorsebatterystaple correct-horse-battery-staple thisismypassword thisisapassword mypasswordispassword
mypassword123456 averylongpassword supersecretpassword secretsecretsecret letmeinletmeinletmein opensesameopensesame
defaultpassword temporarypassword rollbookrollbook tradingplatform
`
