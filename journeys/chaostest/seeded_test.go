package chaostest

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// seededBugs are what the program shows with the tag seeded, and the faults that bring it out.
var seededBugs = []struct {
	bug    string
	faults []Fault // again and again; none: the load alone does it
}{
	{"answer before append", []Fault{KillWriter}},
	{"no fence", []Fault{PauseWriter, CutWriter}},
	{"repeat is done again", nil},
	{"page is skipped", []Fault{KillWriter}},
	{"grace to any generation", nil},
	{"reuse is not punished", nil},
	{"logout is not written", nil},
	{"redeemed again", nil},
	{"stale yes", nil},
	{"own writes are not awaited", []Fault{PausePod}},
	{"unknown is called invalid", []Fault{CutPod, PausePod}},
}

// TestSeededBugs: the checker finds each of the bugs that it is there to find, in a deployment that shows it, and finds
// nothing in the same deployment without one.
func TestSeededBugs(t *testing.T) {
	if testing.Short() || raced {
		t.Skip("starts processes, without the race detector")
	}
	rollbook, nats := programs(t, "-tags", "seeded")
	for _, c := range seededBugs {
		t.Run(strings.ReplaceAll(c.bug, " ", "-"), func(t *testing.T) {
			found := hunt(t, rollbook, nats, c.bug, c.faults, 2*time.Minute)
			if len(found) == 0 {
				t.Fatal("it was not found")
			}
			t.Logf("%d findings, first: %.300s", len(found), found[0])
		})
	}
	t.Run("none", func(t *testing.T) {
		if found := hunt(t, rollbook, nats, "", []Fault{KillWriter, PauseWriter}, 10*time.Second); len(found) != 0 {
			t.Errorf("found without a bug: %v", found)
		}
	})
}

// hunt runs a small deployment with a bug until something is found, or the time is over.
func hunt(t *testing.T, rollbook, nats, bug string, faults []Fault, patience time.Duration) (found []string) {
	t.Helper()
	site := Start(t, Config{Servers: 1, Engines: 2, Pods: 2, Partitions: 2, Users: 6, Rollbook: rollbook, NATS: nats, Dir: t.TempDir(),
		Env: []string{"ROLLBOOK_SEEDED_BUG=" + bug}})
	history, random := NewHistory(), rand.New(rand.NewPCG(1, 1))
	for end := time.Now().Add(patience); time.Now().Before(end); {
		ctx, stop := context.WithCancel(t.Context())
		load := site.Load(ctx, history, random.Uint64())
		time.Sleep(2 * time.Second)
		for _, f := range faults {
			if _, err := site.Inject(ctx, f, history, random); err != nil {
				found = append(found, "the deployment does not recover: "+err.Error())
			}
		}
		stop()
		load.Wait() // a call that is under way is in no history yet
		for _, v := range Judge(history.Ops(), promised).Violations {
			found = append(found, v.String())
		}
		audited, err := site.Audit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if found = append(found, audited.Wrong...); len(found) > 0 {
			return found
		}
	}
	return nil
}
