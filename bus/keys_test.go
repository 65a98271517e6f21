package bus_test

import (
	"testing"
)

// TestKeys: a key that was published is in every later reading, also through another connection and after a restart of
// whoever reads; publishing again replaces it.
func TestKeys(t *testing.T) {
	b := created(t, 1)
	keys, err := b.Keys(t.Context())
	ok(t, err)
	if all, err := keys.All(t.Context()); err != nil || len(all) != 0 {
		t.Fatalf("a new bucket holds %v, %v", all, err)
	}
	for i, id := range []string{"one", "two_-", "one"} {
		ok(t, keys.Publish(t.Context(), id, []byte{byte(i)}))
		again, err := b.Keys(t.Context())
		ok(t, err)
		all, err := again.All(t.Context())
		ok(t, err)
		if got := all[id]; len(got) != 1 || got[0] != byte(i) {
			t.Errorf("%s is %v after it was published as %d", id, got, i)
		}
	}
}
