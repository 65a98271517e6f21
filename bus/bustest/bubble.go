package bustest

import (
	"os"
	"os/exec"
	"testing"
	"testing/synctest"
)

// Bubble runs a test in virtual time, in a process of its own: the NATS client keeps timers in a pool that outlives a
// bubble, and a timer must not be used in another one. It runs beside other tests.
func Bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	const key = "ROLLBOOK_TEST_BUBBLE"
	if os.Getenv(key) == t.Name() {
		synctest.Test(t, test)
		return
	}
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "5m")
	cmd.Env = append(os.Environ(), key+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
