package tokens

import (
	"testing"
	"unsafe"
)

// TestEntryFillsOneLine holds what the comment on accessTable says.
func TestEntryFillsOneLine(t *testing.T) {
	if size := unsafe.Sizeof(accessEntry{}); size != 64 {
		t.Errorf("an entry of the table of access tokens is %d bytes", size)
	}
}
