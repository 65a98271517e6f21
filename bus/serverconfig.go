package bus

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nkeys"
)

// ServerConfig describes the servers of a bus elsewhere, one or a cluster.
// [ServerConfig.Text] writes what nats-server reads.
type ServerConfig struct {
	Servers []Server // one, or 3 or 5 in a cluster
	Users   []User   // at least an owner
	// Partitions is how many the book has or will have. 0: rights for MaxPartitions.
	Partitions int
	// PodVerbs are the commands that pods may submit. None: all.
	PodVerbs []string

	Monitor   string // host:port of each server's monitoring, which anybody may ask who reaches it. "": none
	StoreDir  string // where each server keeps its streams; required
	MaxMemory int64  // bytes that streams in memory may take on one server. 0: 256 MiB
	MaxFile   int64  // bytes that streams in files may take on one server. 0: 10 GiB
	TLS       ServerTLS
	// RoutePassword is what the servers of a cluster show each other; required there.
	RoutePassword string
}

// Server is one nats-server.
type Server struct {
	Name      string // unique within the cluster
	Host      string // where the other servers reach it. "": Name
	Listen    string // the address that it listens on. "": all of its machine
	Port      int    // for clients. 0: 4222
	RoutePort int    // for the cluster's other servers. 0: 6222
}

// User is one nkey of one role. Any number of users may have the same role; each
// has inboxes of its own.
type User struct {
	Role Role
	Key  string // public: U...
}

// ServerTLS are paths on the servers' machines. Without Cert there is no TLS.
type ServerTLS struct {
	Cert, Key string
	CA        string // who has signed the clients' and the servers' certificates; needed for Verify and in a cluster
	Verify    bool   // clients need a certificate too
}

// Text is the configuration of the server with this index. It holds the route
// password in a cluster, and no other secret.
func (c ServerConfig) Text(index int) (string, error) {
	if err := c.check(); err != nil {
		return "", fmt.Errorf("write the server's configuration: %w", err)
	}
	s := c.Servers[index]
	var b strings.Builder
	fmt.Fprintf(&b, "server_name: %q\nlisten: %q\nmax_payload: %d\n\n", s.Name, net.JoinHostPort(cmp.Or(s.Listen, "0.0.0.0"), s.port()), maxPayload)
	if c.Monitor != "" {
		fmt.Fprintf(&b, "http: %q\n\n", c.Monitor)
	}
	fmt.Fprintf(&b, `# Acknowledged means on disk: without sync_interval always, the last minutes may be lost.
jetstream {
  store_dir: %q
  sync_interval: always
  max_memory_store: %d
  max_file_store: %d
}
`, c.StoreDir, cmp.Or(c.MaxMemory, 256<<20), cmp.Or(c.MaxFile, 10<<30))
	if c.TLS.Cert != "" {
		fmt.Fprintf(&b, "\ntls {\n%s}\n", c.TLS.block(c.TLS.Verify))
	}
	if len(c.Servers) > 1 {
		c.cluster(&b, s)
	}
	fmt.Fprintf(&b, "\nsystem_account: %s\n%s", accountSystem, c.accounts())
	return b.String(), nil
}

func (s Server) port() string      { return strconv.Itoa(cmp.Or(s.Port, 4222)) }
func (s Server) routePort() string { return strconv.Itoa(cmp.Or(s.RoutePort, 6222)) }

func (t ServerTLS) block(verify bool) string {
	text := fmt.Sprintf("  cert_file: %q\n  key_file: %q\n  min_version: \"1.2\"\n", t.Cert, t.Key)
	if t.CA != "" {
		text += fmt.Sprintf("  ca_file: %q\n", t.CA)
	}
	return text + fmt.Sprintf("  verify: %t\n", verify)
}

func (c ServerConfig) cluster(b *strings.Builder, s Server) {
	// Clients are told of every server by their own setting. What a server takes for its address need not be one that a
	// client can use: it may be another network's, and stand in no certificate.
	fmt.Fprintf(b, "\ncluster {\n  name: rollbook\n  listen: %q\n  no_advertise: true\n", net.JoinHostPort(cmp.Or(s.Listen, "0.0.0.0"), s.routePort()))
	fmt.Fprintf(b, "  authorization { user: rollbook, password: %q }\n  routes: [\n", c.RoutePassword)
	for _, other := range c.Servers {
		if other.Name != s.Name {
			fmt.Fprintf(b, "    \"nats://rollbook:%s@%s\"\n", c.RoutePassword, net.JoinHostPort(cmp.Or(other.Host, other.Name), other.routePort()))
		}
	}
	b.WriteString("  ]\n")
	if c.TLS.Cert != "" {
		b.WriteString("  tls {\n" + c.TLS.block(true) + "  }\n")
	}
	b.WriteString("}\n")
}

// accounts is what the configuration says about who may do what.
func (c ServerConfig) accounts() string {
	partitions := cmp.Or(c.Partitions, MaxPartitions)
	var users []accountUser
	for _, u := range c.Users {
		users = append(users, accountUser{u, rightsOf(u.Role, partitions, c.PodVerbs), false})
	}
	return accountsText(users)
}

func (c ServerConfig) check() error {
	if n := len(c.Servers); n == 0 || n == 2 {
		return fmt.Errorf("%d servers: use one, or three and more, of which more than half have to be up", n)
	}
	names := map[string]bool{}
	for _, s := range c.Servers {
		if names[s.Name] || s.Name == "" || strings.ContainsAny(s.Name, " \t\r\n\"*>.") {
			return fmt.Errorf("server name %q: each needs one of its own, without spaces and dots", s.Name)
		}
		names[s.Name] = true
	}
	switch {
	case c.StoreDir == "":
		return errors.New("no directory is given for the streams")
	case len(c.Servers) > 1 && (c.RoutePassword == "" || strings.ContainsAny(c.RoutePassword, "\"\\/@:?#%$ ")):
		return errors.New("a cluster needs a route password, of letters and digits")
	case c.Partitions < 0 || c.Partitions > MaxPartitions:
		return fmt.Errorf("%d partitions are not from 1 to %d", c.Partitions, MaxPartitions)
	case (c.TLS.Cert == "") != (c.TLS.Key == ""):
		return errors.New("a certificate and its key go together")
	case c.TLS.Cert == "" && (c.TLS.CA != "" || c.TLS.Verify):
		return errors.New("an authority is given, but no certificate for the servers")
	case c.TLS.Cert != "" && c.TLS.CA == "" && (c.TLS.Verify || len(c.Servers) > 1):
		return errors.New("to check certificates, of clients or of the other servers, the authority's file is needed")
	}
	return c.checkUsers()
}

func (c ServerConfig) checkUsers() error {
	keys := map[string]bool{}
	for _, u := range c.Users {
		if err := u.Role.check(); err != nil {
			return err
		}
		if !nkeys.IsValidPublicUserKey(u.Key) {
			return fmt.Errorf("the key of a user with the role %s is not the public key of a user: it begins with U", u.Role)
		}
		if keys[u.Key] {
			return fmt.Errorf("the key %s stands twice: each user needs its own", u.Key)
		}
		keys[u.Key] = true
	}
	for _, v := range c.PodVerbs {
		if !isToken(v) {
			return fmt.Errorf("%q is no verb", v)
		}
	}
	if !slices.ContainsFunc(c.Users, func(u User) bool { return u.Role == RoleOwner }) {
		return errors.New("there is no owner: nobody could make the streams")
	}
	return nil
}
