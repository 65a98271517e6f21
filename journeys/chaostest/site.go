package chaostest

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/journeys/portstest"
)

// Config says what a site is made of.
type Config struct {
	Servers, Engines, Pods int
	Partitions             int
	Users                  int
	// Rollbook and NATS are the programs; Dir is an empty folder for all data and logs.
	Rollbook, NATS, Dir string
	Env                 []string // of engines and pods, beside what they need
}

// Site is a deployment on this machine.
type Site struct {
	cfg     Config
	servers []*server
	engines []*node
	pods    []*node
	users   []User
	key     string // the file with the deployment key
	client  *http.Client
}

// User is somebody who can log in.
type User struct {
	Name, Password string
	Partition      bus.Partition
}

// server is one of the bus, with its links to the others.
type server struct {
	process
	address string // for clients
	routes  []*link
	disk    string // its mount point when its disk can be filled; else ""
}

// node is an engine or a pod, with its links to the servers.
type node struct {
	process
	links []*link
	base  int         // of its ports
	away  atomic.Bool // a balancer sends nobody here
}

// balanced are the pods to which a balancer sends clients.
func (s *Site) balanced() []*node {
	return slices.DeleteFunc(slices.Clone(s.pods), func(n *node) bool { return n.away.Load() })
}

func (n *node) cut() {
	for _, l := range n.links {
		l.cut()
	}
}

func (n *node) heal() {
	for _, l := range n.links {
		l.heal()
	}
}

// Start builds a site: the bus with the configuration that `rollbook bus-config` prints, its streams, users, engines and pods, all ready. They are stopped when the test ends.
func Start(t testing.TB, cfg Config) *Site {
	t.Helper()
	s := &Site{cfg: cfg, key: filepath.Join(cfg.Dir, "deployment.key"), client: &http.Client{
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	t.Cleanup(s.close)
	for _, step := range []func(testing.TB) error{s.startServers, s.create, s.startNodes, s.addUsers} {
		if err := step(t); err != nil {
			t.Fatalf("%v\n%s", err, s.tails())
		}
	}
	return s
}

func (s *Site) close() {
	for _, n := range slices.Concat(s.pods, s.engines) {
		n.signal(18) // SIGCONT
		n.kill()
		for _, l := range n.links {
			l.close()
		}
	}
	for _, v := range s.servers {
		v.signal(18)
		v.kill()
		for _, l := range v.routes {
			l.close()
		}
		v.unmount()
	}
	s.client.CloseIdleConnections()
}

// tails is what everybody said last.
func (s *Site) tails() string {
	var all strings.Builder
	for _, p := range s.processes() {
		fmt.Fprintf(&all, "== %s\n%s\n", p.name, p.tail())
	}
	return all.String()
}

func (s *Site) processes() []*process {
	var list []*process
	for _, v := range s.servers {
		list = append(list, &v.process)
	}
	for _, n := range slices.Concat(s.engines, s.pods) {
		list = append(list, &n.process)
	}
	return list
}

// monitor is where a server answers questions about itself.
func (s *Site) monitor(i int) string {
	host, port, _ := strings.Cut(s.servers[i].address, ":")
	n, _ := strconv.Atoi(port)
	return fmt.Sprintf("http://%s:%d", host, n+2)
}

// healthy says whether the server runs and has caught up with the others.
func (s *Site) healthy(i int) bool {
	response, err := s.client.Get(s.monitor(i) + "/healthz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

// url is the bus as one process knows it: its links to all servers, or the servers themselves.
func (s *Site) url(list []*link) string {
	var urls []string
	if list == nil {
		for _, v := range s.servers {
			urls = append(urls, "nats://"+v.address)
		}
	}
	for _, l := range list {
		urls = append(urls, "nats://"+l.address())
	}
	return strings.Join(urls, ",")
}

// run runs a command with the credentials of a role.
func (s *Site) run(role bus.Role, stdin string, args ...string) (string, error) {
	return s.program(stdin, append(args, "--bus", s.url(nil), "--creds", s.creds(role))...)
}

// program runs the program to its end.
func (s *Site) program(stdin string, args ...string) (string, error) {
	cmd := exec.Command(s.cfg.Rollbook, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("rollbook %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return string(out), nil
}

func (s *Site) create(testing.TB) error {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	if err := os.WriteFile(s.key, key, 0o600); err != nil {
		return err
	}
	_, err := s.run(bus.RoleOwner, "", "init", "--partitions", fmt.Sprint(s.cfg.Partitions), "--replicas", fmt.Sprint(s.cfg.Servers))
	return err
}

func (s *Site) startNodes(t testing.TB) error {
	var targets []string
	for _, v := range s.servers {
		targets = append(targets, v.address)
	}
	start := func(command string, role bus.Role, i int, more ...string) (*node, error) {
		n := &node{base: portstest.Take(t)}
		var err error
		if n.links, err = links(targets); err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%s%d", command, i+1)
		n.process = process{name: name, log: filepath.Join(s.cfg.Dir, name+".log"),
			command: append([]string{s.cfg.Rollbook, command, "--bus", s.url(n.links), "--creds", s.creds(role), "--port-base", fmt.Sprint(n.base)}, more...),
			env: []string{"ROLLBOOK_GENESIS_MAX_SESSIONS=0", "ROLLBOOK_GENESIS_IDLE=0", "ROLLBOOK_TE_CALL_RATE=-1",
				"ROLLBOOK_LOCKOUT_THRESHOLD=100", "ROLLBOOK_LOCKOUT_HARD=100", "ROLLBOOK_PARTITIONS=" + fmt.Sprint(s.cfg.Partitions),
				"ROLLBOOK_SNAPSHOT_EVENTS=50", "ROLLBOOK_SNAPSHOT_PAUSE=1s", "GORACE=atexit_sleep_ms=1"}}
		n.env = append(n.env, s.cfg.Env...)
		return n, n.start()
	}
	for i := range s.cfg.Engines {
		n, err := start("engine", bus.RoleEngine, i)
		if err != nil {
			return err
		}
		s.engines = append(s.engines, n)
	}
	for i := range s.cfg.Pods {
		n, err := start("adapters", bus.RoleAdapter, i, "--deployment-key-file", s.key, "--venues", "genesis,traderevolution")
		if err != nil {
			return err
		}
		s.pods = append(s.pods, n)
	}
	return s.ready(time.Minute)
}

// ready waits until every process says that it can serve, and every partition has a writer.
func (s *Site) ready(within time.Duration) error {
	end := time.Now().Add(within)
	for _, n := range slices.Concat(s.engines, s.pods) {
		if err := until(time.Until(end), n.name, func() bool { return s.status(n, "/readyz") == http.StatusOK }); err != nil {
			return err
		}
	}
	return until(time.Until(end), "a writer for each partition", func() bool { return len(s.writers()) == s.cfg.Partitions })
}

func (s *Site) status(n *node, path string) int {
	response, err := s.client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", n.base, path))
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// writing is the value of the metric rollbook_writer_role that stands for the one who writes.
const writing = 2

// writers says which engine believes to be the writer of each partition.
func (s *Site) writers() map[bus.Partition]*node {
	found := map[bus.Partition]*node{}
	for _, n := range s.engines {
		quick := &http.Client{Timeout: time.Second, Transport: s.client.Transport}
		response, err := quick.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", n.base))
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			var p, role int
			if _, err := fmt.Sscanf(lines.Text(), `rollbook_writer_role{partition="%d"} %d`, &p, &role); err == nil && role == writing {
				found[bus.Partition(p)] = n
			}
		}
		response.Body.Close()
	}
	return found
}

// addUsers makes the users. One needs some partition or other; they are spread by chance.
func (s *Site) addUsers(testing.TB) error {
	ids := map[string]string{}
	for i := range s.cfg.Users {
		name := fmt.Sprintf("chaos%02d", i)
		u := User{Name: name, Password: name + "-has-a-long-password"}
		if _, err := s.run(bus.RoleOperator, u.Password+"\n", "user", "add", name); err != nil {
			return err
		}
		s.users = append(s.users, u)
	}
	out, err := s.run(bus.RoleOperator, "", "user", "list", "--json")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		var u struct {
			User  string   `json:"user"`
			Names []string `json:"names"`
		}
		if err := json.Unmarshal([]byte(line), &u); err != nil || len(u.Names) == 0 {
			return errors.Join(errors.New("user list --json gave "+line), err)
		}
		ids[u.Names[0]] = u.User
	}
	for i := range s.users {
		s.users[i].Partition = bus.PartitionOf(ids[s.users[i].Name], s.cfg.Partitions)
	}
	return nil
}

// connect opens a connection of this process's own to the bus.
func (s *Site) connect(ctx context.Context) (*bus.Bus, error) {
	return bus.Connect(ctx, bus.ConnectConfig{URL: s.url(nil), Creds: s.creds(bus.RoleAuditor), Name: "chaos audit"})
}
