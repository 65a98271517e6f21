package main

import (
	"cmp"
	"net"
	"strconv"
	"time"

	"rollbook/adapters/genesis"
	"rollbook/bus"
	"rollbook/engine/session"
)

// serveSettings are what `serve` can be told. Each says its default, its unit and what zero means.
type serveSettings struct {
	place `embed:""`

	Host              string `help:"The address that the listeners bind to, but for the bus (--bus-listen): a name or an IP address. Let other machines in only with TLS: --tls-cert, or a proxy that has it." default:"127.0.0.1" env:"ROLLBOOK_HOST"`
	PortBase          uint16 `help:"The TCP port of operations; Genesis is 4 above it, TraderEvolution 5, advAuth 6, Zenith 7, Nebula 8. 0: each listener takes a free port." default:"9060" placeholder:"N" env:"ROLLBOOK_PORT_BASE"`
	BusListen         string `help:"Where the embedded bus listens for operator's commands and downstream readers, host:port; port 0 takes a free one. Empty: nowhere, and then operator's commands work only while the service does not run." default:"127.0.0.1:0" placeholder:"HOST:PORT" env:"ROLLBOOK_BUS_LISTEN"`
	Partitions        int    `help:"How many partitions a new book gets, 1 to 64; fixed from then on, and checked at every start. 0: as stored, and 1 for a new book." default:"0" placeholder:"N" env:"ROLLBOOK_PARTITIONS"`
	DeploymentKeyFile string `help:"The file with the deployment key, 32 bytes or 64 hexadecimal digits, the same for all pods; required with --bus. Empty: deployment.key in the data directory, made once." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_DEPLOYMENT_KEY_FILE"`
	AcceptLossWindow  bool   `help:"With --bus: write also when the servers acknowledge before the disk does, and so may forget sessions they promised. Default: no." env:"ROLLBOOK_ACCEPT_LOSS_WINDOW"`

	PasswordChecks int           `help:"How many passwords are hashed at the same time; each takes 19 MiB and a core. 0: the number of CPUs." default:"0" placeholder:"N" env:"ROLLBOOK_PASSWORD_CHECKS"`
	PasswordQueue  int           `help:"How many logins may wait for their hash; more are told to come back. 0: 64 for each check." default:"0" placeholder:"N" env:"ROLLBOOK_PASSWORD_QUEUE"`
	Staleness      time.Duration `help:"How long this process may be out of touch with the book before it stops saying yes. 0: 2s." default:"2s" placeholder:"TIME" env:"ROLLBOOK_STALENESS"`
	SnapshotEvents int           `help:"After how many events a snapshot of the folded state is written, or after as many as there are live sessions, if that is more. 0: 100000." default:"100000" placeholder:"N" env:"ROLLBOOK_SNAPSHOT_EVENTS"`
	SnapshotPause  time.Duration `help:"The least time from one snapshot to the next. 0: 1m." default:"1m" placeholder:"TIME" env:"ROLLBOOK_SNAPSHOT_PAUSE"`
	Drain          time.Duration `help:"How long requests in progress may take when the service stops. 0: they are cut off." default:"10s" placeholder:"TIME" env:"ROLLBOOK_DRAIN"`

	Lockout lockoutSettings `embed:"" prefix:"lockout-"`
	Genesis genesisSettings `embed:"" prefix:"genesis-"`

	venueSettings `embed:""`
}

// lockoutSettings are [session.Lockout].
type lockoutSettings struct {
	Threshold  uint32        `help:"Consecutive failed logins after which an account is locked for a while. 0: 5." default:"5" placeholder:"N" env:"ROLLBOOK_LOCKOUT_THRESHOLD"`
	FirstDelay time.Duration `help:"The first lock's length; each further failure doubles it. 0: 30s." default:"30s" placeholder:"TIME" env:"ROLLBOOK_LOCKOUT_FIRST_DELAY"`
	MaxDelay   time.Duration `help:"The longest lock that opens by itself. 0: 1h." default:"1h" placeholder:"TIME" env:"ROLLBOOK_LOCKOUT_MAX_DELAY"`
	Hard       uint32        `help:"Consecutive failed logins after which only an operator unlocks. 0: 100." default:"100" placeholder:"N" env:"ROLLBOOK_LOCKOUT_HARD"`
	Forget     time.Duration `help:"How long after the last failed login the count is dropped. 0: 24h." default:"24h" placeholder:"TIME" env:"ROLLBOOK_LOCKOUT_FORGET"`
}

// genesisSettings are the Genesis listener's: [genesis.Config], and its [session.Policy].
type genesisSettings struct {
	StrictStatus   bool          `help:"Give refusals the HTTP status that their STATUS_CODE names; browser clients then lose the error code. Default: no, refusals come as 200." env:"ROLLBOOK_GENESIS_STRICT_STATUS"`
	Cookies        bool          `help:"Put tokens into HttpOnly cookies and blank them in bodies. Default: no." env:"ROLLBOOK_GENESIS_COOKIES"`
	CookieInsecure bool          `help:"Let the cookies travel without TLS, for trials on one machine. Default: no." env:"ROLLBOOK_GENESIS_COOKIE_INSECURE"`
	AllowedOrigins []string      `help:"The pages on other origins that may call, such as https://app.example.com; the word loopback stands for all pages of this machine. Behind a proxy on this machine, name the origin that browsers see too. Empty: none." default:"loopback" placeholder:"ORIGIN" env:"ROLLBOOK_GENESIS_ALLOWED_ORIGINS"`
	HeartbeatSecs  int           `help:"The heartbeat interval that clients are told, in seconds. 0: 30." default:"30" placeholder:"N" env:"ROLLBOOK_GENESIS_HEARTBEAT_SECS"`
	Linger         time.Duration `help:"How long a session outlives the socket it was opened on, so that its client can come back. 0: it ends with the socket. Negative: for ever." default:"2m" placeholder:"TIME" env:"ROLLBOOK_GENESIS_LINGER"`
	MaxBody        int64         `help:"The largest request body or socket message, in bytes. 0: 262144." default:"262144" placeholder:"N" env:"ROLLBOOK_GENESIS_MAX_BODY"`
	MessageRate    int           `help:"How many messages a second one socket may send. 0: 50." default:"50" placeholder:"N" env:"ROLLBOOK_GENESIS_MESSAGE_RATE"`
	MaxSockets     int           `help:"How many sockets may be open. 0: 20000." default:"20000" placeholder:"N" env:"ROLLBOOK_GENESIS_MAX_SOCKETS"`

	Absolute    time.Duration `help:"How long a session lives at the most, however active. 0 is refused: there must be a limit." default:"720h" placeholder:"TIME" env:"ROLLBOOK_GENESIS_ABSOLUTE"`
	Idle        time.Duration `help:"How long after its last use a session ends; until then its refresh token is good. 0: no such limit." default:"120h" placeholder:"TIME" env:"ROLLBOOK_GENESIS_IDLE"`
	AccessIdle  time.Duration `help:"How long after its last use a session has to be refreshed. 0: no such limit." default:"30m" placeholder:"TIME" env:"ROLLBOOK_GENESIS_ACCESS_IDLE"`
	MaxSessions int           `help:"How many live sessions one user may have, at most 500. 0: 500." default:"5" placeholder:"N" env:"ROLLBOOK_GENESIS_MAX_SESSIONS"`
	EvictOldest bool          `help:"End the oldest session when there are too many. Default: no, the login is refused." env:"ROLLBOOK_GENESIS_EVICT_OLDEST"`
}

// Where the listeners are above the port base; venues.go has the other venues'.
const (
	portOperations = 0
	portGenesis    = 4
	portLast       = 8
)

// check refuses what cannot be meant.
func (s *serveSettings) check() error {
	if err := s.place.check(); err != nil {
		return err
	}
	switch {
	case s.Host == "":
		return refuse("usage", "--host is empty: name an address, 0.0.0.0 for all of this machine")
	case s.PortBase > 65535-portLast:
		return refuse("usage", "--port-base %d leaves no room for the %d ports above it", s.PortBase, portLast)
	case s.Partitions < 0 || s.Partitions > bus.MaxPartitions:
		return refuse("usage", "--partitions %d: use 1 to %d", s.Partitions, bus.MaxPartitions)
	case s.PasswordChecks < 0 || s.PasswordQueue < 0 || s.Staleness < 0 || s.Drain < 0:
		return refuse("usage", "--password-checks, --password-queue, --staleness and --drain cannot be negative")
	case s.SnapshotEvents < 0 || s.SnapshotPause < 0:
		return refuse("usage", "--snapshot-events and --snapshot-pause cannot be negative")
	case s.Bus != "" && s.DeploymentKeyFile == "":
		return refuse("usage", "--bus needs --deployment-key-file: all pods share one key")
	}
	if err := s.checkLimits(); err != nil {
		return err
	}
	if err := s.policies().Validate(); err != nil {
		return refuse("usage", "%w", err)
	}
	if err := s.genesisConfig().Validate(); err != nil {
		return refuse("usage", "genesis: %w", err)
	}
	return s.venueSettings.check()
}

// checkLimits refuses limits that no operator means, though the engine could keep them: such as lock everybody out.
func (s *serveSettings) checkLimits() error {
	for name, limit := range map[string]time.Duration{"absolute": s.Genesis.Absolute, "idle": s.Genesis.Idle, "access-idle": s.Genesis.AccessIdle} {
		if limit > 0 && limit < time.Second {
			return refuse("usage", "--genesis-%s %s is less than a second: nobody could use such a session", name, limit)
		}
	}
	// Zero is the default here too.
	usual, l := session.DefaultPolicies().Lockout, s.Lockout
	threshold, hard := cmp.Or(l.Threshold, usual.Threshold), cmp.Or(l.Hard, usual.Hard)
	first, longest := cmp.Or(l.FirstDelay, usual.FirstDelay), cmp.Or(l.MaxDelay, usual.MaxDelay)
	switch {
	case hard < threshold:
		return refuse("usage", "--lockout-hard %d is below --lockout-threshold %d: every lock would be for an operator to undo", hard, threshold)
	case first > longest:
		return refuse("usage", "--lockout-first-delay %s is longer than --lockout-max-delay %s", first, longest)
	}
	return nil
}

// address is where a listener binds, by its distance from the port base.
func (s *serveSettings) address(above uint16) string {
	port := s.PortBase
	if port != 0 {
		port += above
	}
	return net.JoinHostPort(s.Host, strconv.Itoa(int(port)))
}

// busLeaves reports whether other machines can reach the embedded bus.
func (s *serveSettings) busLeaves() bool {
	host, _, err := net.SplitHostPort(s.BusListen)
	return s.Bus == "" && err == nil && !loopback(host)
}

// loopback reports whether nobody but this machine can reach the host.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// policies are the defaults of every venue with this operator's changes.
func (s *serveSettings) policies() session.Policies {
	policies := session.DefaultPolicies()
	l, g := s.Lockout, s.Genesis
	policies.Lockout = session.Lockout{Threshold: l.Threshold, FirstDelay: l.FirstDelay, MaxDelay: l.MaxDelay, Hard: l.Hard, Forget: l.Forget}
	p := policies.Venues[session.Genesis]
	p.Absolute, p.Idle, p.AccessIdle, p.MaxSessions, p.EvictOldest = g.Absolute, g.Idle, g.AccessIdle, g.MaxSessions, g.EvictOldest
	policies.Venues[session.Genesis] = p
	return policies
}

func (s *serveSettings) genesisConfig() genesis.Config {
	g := s.Genesis
	origins := g.AllowedOrigins
	if origins == nil {
		origins = []string{}
	}
	return genesis.Config{
		StrictStatus: g.StrictStatus, Cookies: g.Cookies, Cookie: genesis.CookieConfig{Insecure: g.CookieInsecure},
		AllowedOrigins: origins, HeartbeatSecs: g.HeartbeatSecs, Linger: g.Linger, MaxBody: g.MaxBody,
		MessageRate: g.MessageRate, MaxSockets: g.MaxSockets, Product: []genesis.Product{{Name: "rollbook", Version: thisBuild().Version}},
	}
}
