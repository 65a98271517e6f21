package chaostest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"rollbook/bus"
)

// Fault is something that goes wrong.
type Fault string

const (
	KillWriter  Fault = "kill -9 of an engine that writes"
	StopWriter  Fault = "orderly stop of an engine that writes"
	PauseWriter Fault = "SIGSTOP of an engine that writes, then SIGCONT"
	CutWriter   Fault = "network cut of an engine that writes"
	KillPod     Fault = "kill -9 of a pod"
	PausePod    Fault = "SIGSTOP of a pod, then SIGCONT"
	CutPod      Fault = "network cut of a pod"
	KillServer  Fault = "kill -9 of a server"
	PauseServer Fault = "SIGSTOP of a server, then SIGCONT"
	CutServer   Fault = "network cut between a server and the others"
	FillDisk    Fault = "full disk of a server"
	FailSync    Fault = "failing fsync of a server"
)

// Took is what a fault cost.
type Took struct {
	Fault
	What string
	// Login is the time from the fault to the first login that was asked for after it and acknowledged, of the slowest
	// partition that had lost its writer; zero when that was not measured.
	Login time.Duration
	// Healed is how long it took from the end of the fault until all processes said that they could serve.
	Healed time.Duration
	// Skipped says why the fault could not be injected on this machine.
	Skipped string
}

// patience is how long a site may take to be whole again after a fault.
const patience = 90 * time.Second

// Inject makes something go wrong, mends it, and waits until all is well.
func (s *Site) Inject(ctx context.Context, f Fault, h *History, random *rand.Rand) (Took, error) {
	took := Took{Fault: f}
	var err error
	switch f {
	case KillWriter, StopWriter, PauseWriter, CutWriter:
		err = s.hitWriter(ctx, &took, h, random)
	case KillPod, PausePod, CutPod:
		s.hitPod(&took, random)
	default:
		err = s.hitServer(&took, random)
	}
	if err != nil {
		return took, fmt.Errorf("%s: %w", f, err)
	}
	mended := time.Now()
	if err := s.whole(patience); err != nil {
		return took, fmt.Errorf("after %s (%s): %w", f, took.What, err)
	}
	took.Healed = time.Since(mended)
	return took, nil
}

// whole waits until the servers, engines and pods are all well.
func (s *Site) whole(within time.Duration) error {
	end := time.Now().Add(within)
	for i, v := range s.servers {
		if err := until(time.Until(end), v.name, func() bool { return s.healthy(i) }); err != nil {
			return err
		}
	}
	return s.ready(time.Until(end))
}

// hitWriter takes away the writer of some partitions, and measures how soon another serves them.
func (s *Site) hitWriter(ctx context.Context, took *Took, h *History, random *rand.Rand) error {
	// The fault before may have echoes: an office that changes hands once more.
	var writers map[bus.Partition]*node
	if err := until(patience, "a writer for each partition", func() bool { writers = s.writers(); return len(writers) == s.cfg.Partitions }); err != nil {
		return err
	}
	var all []*node
	for _, n := range s.engines {
		if slices.ContainsFunc(mapKeys(writers), func(p bus.Partition) bool { return writers[p] == n }) {
			all = append(all, n)
		}
	}
	n := all[random.IntN(len(all))]
	var lost []bus.Partition
	for p, writer := range writers {
		if writer == n {
			lost = append(lost, p)
		}
	}
	took.What = n.incarnation()
	begun := time.Now()
	switch took.Fault {
	case KillWriter:
		n.kill()
	case StopWriter:
		if err := n.stop(30 * time.Second); err != nil {
			return err
		}
	case PauseWriter:
		n.signal(syscall.SIGSTOP)
	case CutWriter:
		n.cut()
	}
	took.Login = s.served(ctx, lost, begun, h, random)
	switch took.Fault {
	case KillWriter, StopWriter:
		return n.start()
	case PauseWriter:
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
		n.signal(syscall.SIGCONT)
	case CutWriter:
		time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
		n.heal()
	}
	return nil
}

func mapKeys(m map[bus.Partition]*node) []bus.Partition {
	var keys []bus.Partition
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

// served logs in at each of the partitions until one login is acknowledged, and gives the time the slowest took.
func (s *Site) served(ctx context.Context, partitions []bus.Partition, since time.Time, h *History, random *rand.Rand) time.Duration {
	var asking sync.WaitGroup
	var mu sync.Mutex
	var slowest time.Duration
	for _, p := range partitions {
		at := slices.IndexFunc(s.users, func(u User) bool { return u.Partition == p })
		if at < 0 {
			continue
		}
		c := &caller{site: s, history: h, user: s.users[at], venue: Genesis, random: rand.New(rand.NewPCG(random.Uint64(), 0))}
		asking.Go(func() {
			for ctx.Err() == nil && time.Since(since) < patience {
				session, ok := c.login(ctx, c.pod())
				if !ok {
					c.pause(ctx, 10*time.Millisecond)
					continue
				}
				mu.Lock()
				slowest = max(slowest, time.Since(since))
				mu.Unlock()
				c.logout(ctx, session)
				return
			}
		})
	}
	asking.Wait()
	return slowest
}

func (s *Site) hitPod(took *Took, random *rand.Rand) {
	n := s.pods[random.IntN(len(s.pods))]
	took.What = n.incarnation()
	wait := func() { time.Sleep(time.Duration(200+random.IntN(3500)) * time.Millisecond) }
	switch took.Fault {
	case KillPod:
		n.kill()
		_ = n.start() // one that does not start is not ready later
	case PausePod:
		n.signal(syscall.SIGSTOP)
		wait()
		n.signal(syscall.SIGCONT)
	case CutPod:
		n.cut()
		wait()
		n.heal()
	}
}

func (s *Site) hitServer(took *Took, random *rand.Rand) error {
	i := random.IntN(len(s.servers))
	v := s.servers[i]
	took.What = v.incarnation()
	wait := func() { time.Sleep(time.Duration(500+random.IntN(3500)) * time.Millisecond) }
	switch took.Fault {
	case KillServer:
		v.kill()
		wait()
		return v.start()
	case PauseServer:
		v.signal(syscall.SIGSTOP)
		wait()
		v.signal(syscall.SIGCONT)
	case CutServer:
		between := s.between(i)
		for _, l := range between {
			l.cut()
		}
		wait()
		for _, l := range between {
			l.heal()
		}
	case FillDisk:
		if v.disk == "" {
			took.Skipped = "no right to mount a small disk"
			return nil
		}
		if err := v.fill(); err != nil {
			return err
		}
		wait()
		if err := v.clear(); err != nil {
			return err
		}
		v.kill() // a server keeps the write error of its disk
		return v.start()
	case FailSync:
		return v.failSync(took, wait)
	}
	return nil
}

// between is every link between a server and the others.
func (s *Site) between(i int) []*link {
	list := slices.Clone(s.servers[i].routes)
	for j, other := range s.servers {
		if j == i {
			continue
		}
		at := i // the place of server i among the routes of j, which has none to itself
		if i > j {
			at--
		}
		list = append(list, other.routes[at])
	}
	return list
}

// failSync has every fsync of the running server fail for a while, then starts it anew: its disk is well again, but a
// server does not try again by itself.
func (v *server) failSync(took *Took, wait func()) error {
	strace, err := exec.LookPath("strace")
	if err != nil {
		took.Skipped = "strace is not installed"
		return nil
	}
	v.mu.Lock()
	pid := v.cmd.Process.Pid
	v.mu.Unlock()
	tracer := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO", "-p", fmt.Sprint(pid))
	if err := tracer.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = tracer.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		took.Skipped = "this machine does not let us trace a process"
		return nil
	case <-time.After(500 * time.Millisecond):
	}
	wait()
	v.kill()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = tracer.Process.Kill()
		<-ended
	}
	return v.start()
}
