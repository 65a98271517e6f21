package chaostest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a program that is started, broken and started again.
type process struct {
	name    string
	command []string
	env     []string // beside this process's own
	log     string   // the file that its output goes to, all lives one after the other

	mu    sync.Mutex
	cmd   *exec.Cmd     // guarded by mu
	gone  chan struct{} // guarded by mu: closed when cmd has ended
	lives atomic.Int32  // how often it was started
}

// start starts the process; it must not run.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	fmt.Fprintf(out, "\n--- life %d\n", p.lives.Add(1))
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	gone := make(chan struct{})
	p.cmd, p.gone = cmd, gone
	go func() {
		_ = cmd.Wait() // being killed is what it is for
		close(gone)
	}()
	return nil
}

// signal reaches the process and what it runs under (strace).
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = syscall.Kill(-p.cmd.Process.Pid, s) // gone already: so much the better
	}
}

// kill is kill -9.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	p.wait(time.Minute)
}

// stop is an orderly end, and reports whether it came within the time.
func (p *process) stop(within time.Duration) error {
	p.signal(syscall.SIGTERM)
	if !p.wait(within) {
		p.kill()
		return fmt.Errorf("%s did not end within %s", p.name, within)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with %d", p.name, code)
	}
	return nil
}

func (p *process) wait(within time.Duration) (ended bool) {
	p.mu.Lock()
	gone := p.gone
	p.mu.Unlock()
	if gone == nil {
		return true
	}
	select {
	case <-gone:
		return true
	case <-time.After(within):
		return false
	}
}

// incarnation names this life of the process.
func (p *process) incarnation() string { return fmt.Sprintf("%s/%d", p.name, p.lives.Load()) }

// tail is the end of what the process said.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// life is what the process has said in this life.
func (p *process) life() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	_, said, _ := strings.Cut(string(data), fmt.Sprintf("\n--- life %d\n", p.lives.Load()))
	return said
}

// errNotReady says that something did not come up in time.
var errNotReady = errors.New("not ready in time")

// until asks again and again whether something holds.
func until(within time.Duration, what string, holds func() bool) error {
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		if holds() {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: %w", what, errNotReady)
		}
	}
}
