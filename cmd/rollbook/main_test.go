package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rogpeppe/go-internal/testscript"

	"rollbook/journeys/portstest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"rollbook": main,
		"call":     func() { os.Exit(call(os.Args[1:])) },
		"exits":    func() { os.Exit(exits(os.Args[1:])) },
		"retry":    func() { os.Exit(retry(os.Args[1:])) },
		"bare":     func() { os.Exit(bare(os.Args[1:])) },
		"late":     func() { os.Exit(late(os.Args[1:])) },
	})
}

// TestScripts runs the real program: testdata/script/*.txtar. Beside testscript's own commands there are
//
//	exec call [-wait] [-until TEXT] [-H 'Name: value']... [-d BODY] URL   an HTTP call; the body on stdout, the status on stderr
//	exec exits N COMMAND...                                 runs a command that must exit with N
//	exec late URL FILE COMMAND...                           runs a command whose input is FILE, but only once URL answers 200
//	exec retry N COMMAND...                                 the same, for 20 seconds until it does
//	exec bare HOST:PORT DIR                                 a NATS server with JetStream and nothing on it
//	take VARIABLE field.field                               a field of the JSON on stdout into the environment
//	terminate                                               sends SIGTERM to what runs in the background
//	certificate NAME                                        makes NAME.pem, which is its own authority, and NAME.key
//	occupy PORT                                             has a port taken until the script ends
//
// $BASE is a port base whose ports are free, $OPERATIONS, $GENESIS, $TE, $ADVAUTH and $NEBULA are the addresses there; $BASE2 and so on are
// another such. $BUS is a free address for the bus. $DATA is a directory that does not exist.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			base, other := portstest.Take(t), portstest.Take(t)
			env.Setenv("BASE", strconv.Itoa(base))
			env.Setenv("OPERATIONS", fmt.Sprintf("http://127.0.0.1:%d", base+portOperations))
			env.Setenv("GENESIS", fmt.Sprintf("http://127.0.0.1:%d", base+portGenesis))
			env.Setenv("GENESIS_PORT", strconv.Itoa(base+portGenesis))
			env.Setenv("TE", fmt.Sprintf("http://127.0.0.1:%d", base+portTE))
			env.Setenv("ADVAUTH", fmt.Sprintf("http://127.0.0.1:%d", base+portAdvAuth))
			env.Setenv("NEBULA", fmt.Sprintf("http://127.0.0.1:%d", base+portNebula))
			env.Setenv("NEBULA_PORT", strconv.Itoa(base+portNebula))
			env.Setenv("GORACE", "atexit_sleep_ms=1") // the race detector would keep each of some hundred processes for a second
			env.Setenv("BASE2", strconv.Itoa(other))
			env.Setenv("OPERATIONS2", fmt.Sprintf("http://127.0.0.1:%d", other+portOperations))
			env.Setenv("GENESIS2", fmt.Sprintf("http://127.0.0.1:%d", other+portGenesis))
			env.Setenv("BUS", fmt.Sprintf("127.0.0.1:%d", other+portLast+1))
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			env.Setenv("DATA", filepath.Join(env.WorkDir, "data"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"take": take, "occupy": occupy, "terminate": terminate, "certificate": certificateFor(t)},
	})
}

// certificateFor makes a certificate for this machine that is its own authority, in NAME.pem, with its key in NAME.key.
func certificateFor(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: certificate NAME")
		}
		cert, key := issueCertificate(t, 1)
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pem"), cert, 0o600))
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+".key"), key, 0o600))
	}
}

// occupy has a port of this machine taken until the script ends.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy PORT")
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	ts.Check(err)
	ts.Defer(func() { l.Close() })
}

// terminate does what testscript's kill has no word for.
func terminate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: terminate")
	}
	for _, command := range ts.BackgroundCmds() {
		ts.Check(command.Process.Signal(syscall.SIGTERM))
	}
}

// take puts a field of the JSON object that the last command printed into an environment variable.
func take(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: take VARIABLE field.field")
	}
	var at any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &at))
	for _, key := range strings.Split(args[1], ".") {
		object, _ := at.(map[string]any)
		at = object[key]
	}
	text, ok := at.(string)
	if !ok || text == "" {
		ts.Fatalf("there is no field %s", args[1])
	}
	ts.Setenv(args[0], text)
}

// call makes an HTTP request. With -wait it goes on asking until the answer is 200, with -until until the body has the
// text, for 20 seconds.
func call(args []string) int {
	flags := flag.NewFlagSet("call", flag.ContinueOnError)
	wait := flags.Bool("wait", false, "")
	until := flags.String("until", "", "")
	body := flags.String("d", "", "")
	header := http.Header{}
	flags.Func("H", "", func(line string) error {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			return errors.New("not a header")
		}
		header[name] = []string{value} // as it stands: SOURCE_REF is no canonical name
		return nil
	})
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		return exitRefused
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		status, text, err := callOnce(flags.Arg(0), header, *body)
		if (*wait && status != http.StatusOK || !strings.Contains(text, *until)) && time.Now().Before(deadline) {
			continue
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return exitFailed
		}
		fmt.Fprintln(os.Stderr, status)
		fmt.Println(strings.TrimSpace(text))
		return exitDone
	}
}

func callOnce(url string, header http.Header, body string) (int, string, error) {
	method, content := http.MethodGet, io.Reader(nil)
	if body != "" {
		method, content = http.MethodPost, strings.NewReader(body)
	}
	request, err := http.NewRequest(method, url, content)
	if err != nil {
		return 0, "", err
	}
	request.Header = header
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// bare runs a server until a signal comes.
func bare(args []string) int {
	host, port, _ := net.SplitHostPort(args[0])
	number, err := strconv.Atoi(port)
	if err != nil {
		return exitRefused
	}
	s, err := server.NewServer(&server.Options{ServerName: "bare", Host: host, Port: number, JetStream: true, StoreDir: args[1], SyncAlways: true, NoLog: true, NoSigs: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	s.Start()
	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt)
	<-told
	s.Shutdown()
	s.WaitForShutdown()
	return exitDone
}

// late runs a command whose standard input is a pipe, with nothing in it until the URL answers 200, and then a file.
func late(args []string) int {
	command := exec.Command(args[2], args[3:]...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	input, err := command.StdinPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	text, err := os.ReadFile(args[1])
	if err == nil && call([]string{"-wait", args[0]}) == exitDone {
		_, err = input.Write(text)
	}
	if err = errors.Join(err, input.Close(), command.Wait()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	return exitDone
}

// retry is exits for what takes a moment to be so. Only the last attempt's output is shown.
func retry(args []string) int {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		command := exec.Command(args[1], args[2:]...)
		out, err := command.CombinedOutput()
		if code := command.ProcessState.ExitCode(); strconv.Itoa(code) == args[0] || time.Now().After(deadline) {
			os.Stderr.Write(out)
			if strconv.Itoa(code) != args[0] {
				fmt.Fprintln(os.Stderr, "exit code", code, err)
				return exitFailed
			}
			return exitDone
		}
	}
}

// exits runs a command and reports whether it exited with the code that stands first.
func exits(args []string) int {
	command := exec.Command(args[1], args[2:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := command.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	if code := command.ProcessState.ExitCode(); strconv.Itoa(code) != args[0] {
		fmt.Fprintf(os.Stderr, "exit code %d, not %s\n", code, args[0])
		return exitFailed
	}
	return exitDone
}
