// Package consumers_test runs the examples of consumers as a reader would, against a real feed.
package consumers_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/bus/clustertest"
	"rollbook/engine/session"
	"rollbook/projections/feed/feedtest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// published is a bus with a feed of two partitions, and what they hold.
func published(t *testing.T) (url string, at []string, ended []string) {
	t.Helper()
	c := clustertest.Start(t, 1)
	b, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: c.URL()})
	must(t, err)
	t.Cleanup(func() { _ = b.Close() })
	must(t, b.Create(t.Context(), bus.Layout{Partitions: 2, Replicas: 1}))
	feedtest.Publishing(t, feedtest.Source(b, 0), feedtest.Source(b, 1))
	for p := range bus.Partition(2) {
		s := feedtest.Write(t, b, p)
		s.Page(20)
		s.Page(700)
		s.CaughtUp(b)
		positions, data := s.Events()
		for i := range positions {
			at = append(at, positions[i].String())
			e, err := session.DecodeEvent(data[i])
			must(t, err)
			if e.Type() == "SessionEnded" {
				ended = append(ended, positions[i].String())
			}
		}
	}
	return c.URL(), at, ended
}

// command runs a program to its end.
func command(t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var text strings.Builder
	cmd.Stderr = &text
	out, err := cmd.Output()
	if err != nil {
		err = errors.Join(err, errors.New(text.String()))
	}
	return string(out), err
}

// inParts runs an example three times, for a part of the events each; between the runs half a line is left behind, as by a
// kill. It returns what was printed.
func inParts(t *testing.T, total int, cursor string, run func(n int) (string, error)) string {
	t.Helper()
	var all strings.Builder
	for _, n := range []int{7, 600, total - 607} {
		out, err := run(n)
		must(t, err)
		all.WriteString(out)
		file, err := os.OpenFile(cursor, os.O_APPEND|os.O_WRONLY, 0o600)
		must(t, err)
		_, err = file.WriteString(`{"position":"0/`)
		must(t, errors.Join(err, file.Close()))
	}
	return all.String()
}

var position = regexp.MustCompile(`\b\d+/\d+\.\d+\b`)

func same(t *testing.T, out string, want []string) {
	t.Helper()
	got := position.FindAllString(out, -1)
	slices.Sort(got)
	want = slices.Clone(want)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d positions were printed, %d of them different, and there are %d", len(got), len(slices.Compact(got)), len(want))
	}
}

func TestGo(t *testing.T) {
	url, at, _ := published(t)
	dir := t.TempDir()
	program, cursor := filepath.Join(dir, "consumer"), filepath.Join(dir, "cursor")
	if _, err := command(t, "go", nil, "go", "build", "-o", program, "."); err != nil {
		t.Fatal(err)
	}
	out := inParts(t, len(at), cursor, func(n int) (string, error) {
		return command(t, dir, nil, program, "--bus", url, "--cursor", cursor, "--until", strconv.Itoa(n))
	})
	same(t, out, at)
	if !strings.Contains(out, " SessionStarted u-1 by ") {
		t.Errorf("it prints %.200s", out)
	}
}

func TestJavaScript(t *testing.T) {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the example is not run: %v", err)
		}
	}
	dir := t.TempDir() // npm leaves a folder beside the program
	for _, name := range []string{"consumer.mjs", "package.json", "package-lock.json"} {
		data, err := os.ReadFile(filepath.Join("javascript", name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	if _, err := command(t, dir, nil, "npm", "ci", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1"); err != nil {
		t.Skipf("the example is not run, since npm cannot get what it needs: %v", err)
	}
	url, at, _ := published(t)
	cursor := filepath.Join(dir, "cursor")
	out := inParts(t, len(at), cursor, func(n int) (string, error) {
		return command(t, dir, nil, "node", "consumer.mjs", "--bus", url, "--cursor", cursor, "--until", strconv.Itoa(n))
	})
	same(t, out, at)
	another, _, _ := published(t)
	if out, err := command(t, dir, nil, "node", "consumer.mjs", "--bus", another, "--cursor", cursor, "--until", "1"); err == nil || !strings.Contains(err.Error(), "made anew") {
		t.Errorf("of another feed it prints %.300s, %v", out, err)
	}
	for _, want := range []string{`"kind":"SessionStarted"`, `"venue":"genesis"`, `"user":"u-1"`} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in what it prints: %.300s", want, out)
		}
	}
}

func TestNATSCommandLine(t *testing.T) {
	bin := t.TempDir()
	if _, err := command(t, "nats-cli", nil, "go", "build", "-o", filepath.Join(bin, "nats"), "github.com/nats-io/natscli/nats"); err != nil {
		t.Skipf("the example is not run, since the nats command cannot be built: %v", err)
	}
	url, _, ended := published(t)
	var all strings.Builder
	env := []string{"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH"), "BUS=" + url, "HOME=" + bin, "XDG_CONFIG_HOME=" + bin}
	for _, n := range []int{1, 30, len(ended)} { // at the end it is told of fewer than it asks for
		out, err := command(t, "nats-cli", env, "./report.sh", strconv.Itoa(n), filepath.Join(bin, "seq"))
		must(t, err)
		all.WriteString(out)
	}
	same(t, all.String(), ended)
	if want := regexp.MustCompile(`^\d+/\d+\.\d+ rollbook\.event\.[01]\.u-\d\.SessionEnded\n`); !want.MatchString(all.String()) {
		t.Errorf("it prints %.200s", all.String())
	}
}
