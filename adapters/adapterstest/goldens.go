package adapterstest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Goldens are a venue's recorded exchanges: folders of files NAME.request, each with what answers it in NAME.response.
// The requests are sent in the order of their names.
type Goldens struct {
	// Dir is the folder of the folders.
	Dir string
	// Update is the flag -update of the package whose goldens they are: responses are then written, not compared.
	Update *bool
}

// Requests lists a folder's files *.request whose names match the pattern, such as "[0-9]*", in order. Fewer than least
// end the test: a folder that is not found would satisfy every comparison.
func (g Goldens) Requests(t testing.TB, folder, pattern string, least int) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(g.Dir, folder, pattern+".request"))
	if err != nil || len(files) < least {
		t.Fatalf("%s has %d requests, not %d: %v", folder, len(files), least, err)
	}
	return files
}

// Read gives the text of a file: one that Requests listed, or the name of one below Dir.
func (g Goldens) Read(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(g.below(file))
	Must(t, err)
	return string(data)
}

// Compare holds what a request was answered with to the file beside it.
func (g Goldens) Compare(t testing.TB, request string, got []byte) {
	t.Helper()
	g.CompareFile(t, strings.TrimSuffix(request, ".request")+".response", got)
}

// below is where a file is that is named from Dir, or by its whole path.
func (g Goldens) below(file string) string {
	if dir := filepath.Clean(g.Dir) + string(filepath.Separator); strings.HasPrefix(file, dir) {
		return file
	}
	return filepath.Join(g.Dir, file)
}

// CompareFile holds a text to a file, which is named as for Read, or writes it with -update.
func (g Goldens) CompareFile(t testing.TB, file string, got []byte) {
	t.Helper()
	file = g.below(file)
	if *g.Update {
		Must(t, os.WriteFile(file, got, 0o644))
		return
	}
	want, err := os.ReadFile(file)
	Must(t, err)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; rewrite with -update):\n%s", file, diff)
	}
}
