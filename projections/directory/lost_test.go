package directory

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rollbook/bus"
	"rollbook/engine/session"
)

// TestLostEntries: after an orderly stop a bit flips on the disk, in the records and names of users. The server gives what is
// damaged to nobody, and says nothing. Whoever is not found then is not known not to be there; the others log in.
func TestLostEntries(t *testing.T) {
	r := newRig(t)
	users := map[string]session.UserID{}
	for n := range 6 {
		name := fmt.Sprintf("user%d", n)
		users[name] = r.add(good, name).User
	}
	whole := r.directory(r.kv)
	if n := whole.Lost(); n != 0 {
		t.Errorf("%d entries are lost of a sound directory", n)
	}
	if v := verdict(t, whole, "nobody", good); v != session.NoSuchUser {
		t.Errorf("nobody: verdict %v", v)
	}
	r.server.Shutdown()
	files, err := filepath.Glob(filepath.Join(r.dir, "*", "jetstream", "*", "streams", "KV_"+bus.BucketDirectory, "msgs", "*.blk"))
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("the bucket has the files %q", files)
	}
	sound, err := os.ReadFile(files[0])
	must(t, err)
	index := filepath.Join(filepath.Dir(files[0]), "index.db")
	indexed, err := os.ReadFile(index)
	must(t, err)

	tried := 0
	for name, user := range users {
		for at := 0; ; at++ {
			next := bytes.Index(sound[at:], []byte(user))
			if next < 0 {
				break
			}
			at += next
			tried++
			damaged := bytes.Clone(sound)
			damaged[at+7] ^= 0x10
			must(t, os.WriteFile(files[0], damaged, 0o600))
			r.start("")
			r.open()
			d := r.directory(r.kv)
			if d.Lost() == 0 {
				t.Errorf("nothing is lost, with byte %d damaged, of %s", at+7, name)
			}
			for other := range users {
				c, err := d.Check(t.Context(), session.Genesis, other, good)
				if found := err == nil && c.Verdict == session.Matched; found == (other == name) || !found && !errors.Is(err, ErrLost) {
					t.Errorf("with byte %d damaged, of %s, %s is answered %v, %v", at+7, name, other, c.Verdict, err)
				}
				if err := d.Doubt(other); (other == name) != errors.Is(err, ErrLost) {
					t.Errorf("with byte %d damaged, of %s, the doubt about %s is %v", at+7, name, other, err)
				}
			}
			r.server.Shutdown()
			must(t, os.WriteFile(index, indexed, 0o600))
		}
	}
	if tried < 3*len(users) {
		t.Errorf("%d places were damaged: the test shows less than it should", tried)
	}
}
