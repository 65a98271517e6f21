package bus

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestServerLog(t *testing.T) {
	var text bytes.Buffer
	l := newServerLog(slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelInfo})))
	l.Noticef("Server is ready")
	l.Warnf("Filestore [BOOK_0] Stream state outdated, last block has additional entries, will rebuild")
	l.Errorf("%s - cid:%d", "something else", 7)
	for i := range 1000 {
		l.Errorf(fmt.Sprintf("127.0.0.1:1 - cid:7 - Publish Violation - Subject %%q, %d", i), "a.b")
		l.Errorf("127.0.0.1:1 - cid:7 - %v - %s", "authentication error", "Nkey")
	}
	l.Fatalf("the end")
	got := text.String()
	for _, want := range []string{`level=INFO msg="nats: Filestore [BOOK_0] `, `level=WARN msg="nats: something else - cid:7"`,
		`level=WARN msg="nats: 127.0.0.1:1 - cid:7 - Publish Violation - Subject \"a.b\", 0"`, `level=ERROR msg="nats: the end"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in:\n%s", want, got)
		}
	}
	// The first few, and one each ten seconds; with the slowest machine still few of 2,000.
	if n := strings.Count(got, "cid:7 - "); n < 3 || n > 20 {
		t.Errorf("%d refusals are told", n)
	}
	if strings.Contains(got, "ready") {
		t.Error("chatter is told")
	}
	if told := strings.Count(got, "untold=0"); told < 3 || l.untold.Load() == 0 {
		t.Errorf("%d refusals are told with none left out, %d wait to be told", told, l.untold.Load())
	}
}
