package bus

import (
	"fmt"
	"slices"
	"strings"
)

// accountUser is a user with what it may, as accountsText writes it.
type accountUser struct {
	User
	rights
	all bool // no bounds within its account
}

// apart is where an account without JetStream has the JetStream questions that it
// imports. The server answers $JS.API.> of such an account by itself, with an
// error; mapped aside, the question reaches the other account alone.
const apart = "rollbook.api."

// aside is the subject in the asker's account that stands for one of ROLLBOOK's.
func aside(subject string) (mapped string, ok bool) {
	rest, ok := strings.CutPrefix(subject, "$JS.API.")
	if !ok || strings.HasPrefix(subject, apiDirectGet) { // those are the streams' own
		return subject, false
	}
	return apart + rest, true
}

// accountsText is the accounts of a server's configuration: each role's account
// with its users, what ROLLBOOK exports to it and it imports.
func accountsText(users []accountUser) string {
	grouped := map[string][]accountUser{}
	for _, u := range users {
		grouped[u.Role.account()] = append(grouped[u.Role.account()], u)
	}
	var exports, others strings.Builder
	for _, name := range []string{accountPods, accountOperators, accountReaders, accountNotaries, accountCouriers, accountConsumers} {
		if len(grouped[name]) > 0 {
			exports.WriteString(exportsTo(name, grouped[name]))
			others.WriteString(importer(name, grouped[name]))
		}
	}
	var b strings.Builder
	b.WriteString("accounts {\n")
	if asksServers(users) || len(grouped[accountSystem]) > 0 {
		fmt.Fprintf(&b, "  %s {\n    users: [%s]\n    exports: [{service: %q, response: stream}]\n  }\n", accountSystem, usersText(grouped[accountSystem]), sysServerJSZ)
	}
	fmt.Fprintf(&b, "  %s {\n    jetstream: enabled\n    users: [%s]\n    exports: [\n%s    ]\n", accountHome, usersText(grouped[accountHome]), exports.String())
	if asksServers(grouped[accountHome]) {
		fmt.Fprintf(&b, "    imports: [{service: {account: %s, subject: %q}}]\n", accountSystem, sysServerJSZ)
	}
	fmt.Fprintf(&b, "  }\n%s}\n", others.String())
	return b.String()
}

func asksServers(users []accountUser) bool {
	return slices.ContainsFunc(users, func(u accountUser) bool {
		return slices.ContainsFunc(u.asks, func(a ask) bool { return a.system })
	})
}

// inboxes are the subjects of a user's own replies. A writer answers commands
// there, from ROLLBOOK.
func (u accountUser) inboxes() string { return inboxPrefix + u.Key + ".>" }

// exportsTo is what ROLLBOOK lets an account have. Outcomes of commands go to the
// inboxes of those who may submit them.
func exportsTo(account string, users []accountUser) string {
	var b strings.Builder
	for _, a := range users[0].asks {
		switch {
		case a.system:
		case a.many:
			fmt.Fprintf(&b, "      {service: %q, response: stream, accounts: [%s]}\n", a.subject, account)
		default:
			fmt.Fprintf(&b, "      {service: %q, accounts: [%s]}\n", a.subject, account)
		}
	}
	for _, s := range heardOutside(users) {
		fmt.Fprintf(&b, "      {stream: %q, accounts: [%s]}\n", s, account)
	}
	return b.String()
}

// heardOutside is what users of one account hear from ROLLBOOK.
func heardOutside(users []accountUser) []string {
	hears := slices.Clone(users[0].hears)
	if slices.ContainsFunc(users[0].asks, func(a ask) bool { return strings.HasPrefix(a.subject, subjectCommandPrefix) }) {
		for _, u := range users {
			hears = append(hears, u.inboxes())
		}
	}
	return hears
}

// importer is an account that has no streams, and what it sees of ROLLBOOK.
func importer(name string, users []accountUser) string {
	var imports, mappings strings.Builder
	for _, a := range users[0].asks {
		from := accountHome
		if a.system {
			from = accountSystem
		}
		mapped, apart := aside(a.subject)
		if !apart {
			fmt.Fprintf(&imports, "      {service: {account: %s, subject: %q}}\n", from, a.subject)
			continue
		}
		fmt.Fprintf(&imports, "      {service: {account: %s, subject: %q}, to: %q}\n", from, a.subject, mapped)
		fmt.Fprintf(&mappings, "      %q: %q\n", a.subject, numbered(mapped))
	}
	for _, s := range heardOutside(users) {
		fmt.Fprintf(&imports, "      {stream: {account: %s, subject: %q}}\n", accountHome, s)
	}
	return fmt.Sprintf("  %s {\n    users: [%s]\n    mappings: {\n%s    }\n    imports: [\n%s    ]\n  }\n",
		name, usersText(users), mappings.String(), imports.String())
}

// numbered writes a subject's wildcards as a mapping's destination has them.
func numbered(subject string) string {
	n := 0
	tokens := strings.Split(subject, ".")
	for i, t := range tokens {
		if t == "*" {
			n++
			tokens[i] = fmt.Sprintf("$%d", n)
		}
	}
	return strings.Join(tokens, ".")
}

func usersText(users []accountUser) string {
	var b strings.Builder
	for _, u := range users {
		if u.all || u.Role == RoleSystem {
			fmt.Fprintf(&b, "\n      {nkey: %s}", u.Key)
			continue
		}
		var publish []string
		for _, a := range u.asks {
			mapped, apart := aside(a.subject)
			if u.Role.account() == accountHome || !apart {
				mapped = a.subject
			}
			publish = append(publish, mapped)
		}
		fmt.Fprintf(&b, "\n      { # %s\n        nkey: %s\n        permissions: {\n          publish: {allow: [%s]}\n          subscribe: {allow: [%s]}\n        }\n      }",
			u.Role, u.Key, list(publish), list(append(slices.Clone(u.hears), u.inboxes())))
	}
	if b.Len() > 0 {
		b.WriteString("\n    ")
	}
	return b.String()
}

func list(subjects []string) string {
	var b strings.Builder
	for _, s := range subjects {
		fmt.Fprintf(&b, "\n            %q", s)
	}
	return b.String() + "\n          "
}
