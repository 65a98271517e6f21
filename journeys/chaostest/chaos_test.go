package chaostest

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The short form runs by itself; docs/reliability.md says how the long one was run.
var (
	writerKills = flag.Int("writer-kills", 2, "how often an engine that writes is killed")
	serverKills = flag.Int("server-kills", 1, "how often a server of the bus is killed")
	others      = flag.Int("others", 1, "how often each other fault happens")
	seed        = flag.Uint64("seed", 1, "what the order of the faults and the clients' choices come from")
	reportFile  = flag.String("report", "", "the file that the report is written to, as Markdown")
	keep        = flag.String("keep", "", "an empty folder that the history, data and logs are kept in")
)

// programs builds what a site runs.
func programs(t *testing.T, tags ...string) (rollbook, nats string) {
	t.Helper()
	dir := t.TempDir()
	rollbook, nats = filepath.Join(dir, "rollbook"), filepath.Join(dir, "nats-server")
	for file, what := range map[string]string{rollbook: "rollbook/cmd/rollbook", nats: "github.com/nats-io/nats-server/v2"} {
		args := append([]string{"build", "-o", file}, tags...)
		if out, err := exec.Command("go", append(args, what)...).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", what, err, out)
		}
	}
	return rollbook, nats
}

// promised is what the pods promise of answers from memory, and how long tokens last by the venues' defaults, with the
// time of a call taken off.
var promised = Bounds{Stale: 3 * time.Second, OneTime: 15 * time.Second, Access: 4 * time.Minute}

// TestChaos breaks a whole deployment while clients work, and checks everything that they saw.
func TestChaos(t *testing.T) {
	if testing.Short() || raced {
		t.Skip("starts a cluster, without the race detector")
	}
	dir := *keep
	if dir == "" {
		dir = t.TempDir()
	}
	cfg := Config{Servers: 3, Engines: 2, Pods: 3, Partitions: 4, Users: 12, Dir: dir}
	cfg.Rollbook, cfg.NATS = programs(t)
	site := Start(t, cfg)

	random := rand.New(rand.NewPCG(*seed, 0))
	begun := time.Now()
	history := NewHistory()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	load := site.Load(ctx, history, *seed)
	report := Report{Command: command(), Seed: *seed, Config: cfg}
	for i, f := range schedule(random) {
		time.Sleep(time.Duration(200+random.IntN(800)) * time.Millisecond)
		took, err := site.Inject(ctx, f, history, random)
		if err != nil {
			stop()
			load.Wait()
			t.Fatalf("fault %d: %v\n%s", i+1, err, site.tails())
		}
		report.Faults = append(report.Faults, took)
		t.Logf("%4d %s (%s): first new login %s, all well again %s %s", i+1, f, took.What, took.Login.Round(time.Millisecond),
			took.Healed.Round(time.Millisecond), took.Skipped)
	}
	time.Sleep(time.Second)
	stop()
	load.Wait()
	load.Ask(context.Background())
	report.Length = time.Since(begun)
	report.judge(t, site, history)
	for _, wrong := range site.Reborn(context.Background()) {
		t.Error(wrong)
	}

	if *keep != "" {
		file, err := os.Create(filepath.Join(dir, "history.jsonl"))
		if err == nil {
			err = history.Write(file)
			file.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}
	var text strings.Builder
	report.Markdown(&text)
	t.Log(text.String())
	if *reportFile != "" {
		if err := os.WriteFile(*reportFile, []byte(text.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
	if !report.Clean() {
		t.Errorf("see the report")
	}
	if v := report.Verdict; v.Sessions < 20 || v.Ops-v.Unknown < 500 || v.OneTime == 0 {
		t.Errorf("too little happened to prove anything: %d sessions, %d calls, %d without an answer, %d one-time tokens", v.Sessions, v.Ops, v.Unknown, v.OneTime)
	}
}

func (r *Report) judge(t *testing.T, site *Site, history *History) {
	t.Helper()
	ops := history.Ops()
	r.Verdict = Judge(ops, promised)
	var err error
	if r.Audited, err = site.Audit(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.Compared = r.Audited.Compare(ops)
}

// schedule is what goes wrong, in an order that the seed decides.
func schedule(random *rand.Rand) []Fault {
	var list []Fault
	add := func(f Fault, times int) {
		for range times {
			list = append(list, f)
		}
	}
	add(KillWriter, *writerKills)
	add(KillServer, *serverKills)
	for _, f := range []Fault{StopWriter, PauseWriter, CutWriter, KillPod, PausePod, CutPod, PauseServer, CutServer, FillDisk, FailSync} {
		add(f, *others)
	}
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func command() string {
	return fmt.Sprintf("go test ./journeys/chaostest -run TestChaos -timeout 0 -v -args -writer-kills %d -server-kills %d -others %d -seed %d",
		*writerKills, *serverKills, *others, *seed)
}
