package main

import (
	"fmt"
	"os"
	"strings"

	"rollbook/engine/session"
)

// demoScreen says where everything is and what to try. It fits 80 columns, as long as the directory's name is short.
func (h *house) demoScreen(kept bool) string {
	fate := "removed at exit"
	if kept {
		fate = "kept"
	}
	bus := h.embedded.URL()
	if bus == "" {
		bus = "listens nowhere (--bus-listen): not"
	}
	words := []string{"{operations}", url(h.operationsAt), "{dir}", h.dir, "{bus}", bus, "{rollbook}", os.Args[0],
		"{fate}", fate, "{name}", demoName, "{password}", demoPassword, "{base}", h.set.TE.BasePath}
	var at, keys, try strings.Builder
	for _, d := range h.doors {
		venue := demoVenues[d.venue]
		where := h.doorURL(d, venue.scheme)
		fmt.Fprintf(&at, "  %-15s  %s%s\n", d.title, where, venue.paths)
		fmt.Fprintf(&try, "\n  # %s%s\n%s", d.title, venue.note, strings.NewReplacer("{at}", where, "{key}", h.demoKeys[d.venue].Key).Replace(venue.try))
		if key, has := h.demoKeys[d.venue]; has {
			fmt.Fprintf(&keys, "  %-15s  %s %s\n", d.title, venue.key, key.Key)
		}
	}
	text := demoHead + at.String() + demoPlaces
	if keys.Len() > 0 {
		text += "\nAPI keys of {name}, of this demo alone:\n\n" + keys.String()
	}
	text += "\nTry it in another terminal, from the same folder. Each of these logs in:\n" + try.String() + demoFoot
	return strings.NewReplacer(words...).Replace(text)
}

// demoVenue is what the screen says of a venue.
type demoVenue struct {
	scheme string // of its URL, without TLS
	paths  string // what stands behind the URL
	key    string // what stands before the API key
	note   string
	try    string
}

var demoVenues = map[session.Venue]demoVenue{
	session.Genesis: {scheme: "http", paths: "   HTTP, and WebSocket at /", try: `  curl -s {at}/event-login-auth -H 'SOURCE_REF: 1' \
    -d '{"DETAILS":{"USER_NAME":"{name}","PASSWORD":"{password}"}}'
`},
	session.TraderEvolution: {scheme: "http", paths: "{base}", try: `  curl -s {at}{base}/auth/token \
    -H 'Content-Type: application/json' \
    -d '{"login":"{name}","password":"{password}"}'
`},
	session.AdvAuth: {scheme: "http", paths: "   below /, /api too", key: "API key", note: ": the token is good for 20 seconds",
		try: `  curl -s {at}/login -H 'Content-Type: application/json' \
    -d '{"UserLogin":"{name}","ApiKey":"{key}"}'
`},
	session.Zenith: {scheme: "ws", paths: "/Zenith", note: ", with Node 20 or later", try: `  node --experimental-websocket -e '
    const s = new WebSocket("{at}/Zenith", "ZenithJson")
    s.onmessage = m => { console.log(m.data); s.close() }
    s.onopen = () => s.send(JSON.stringify({ Controller: "Auth",
      Topic: "AuthOwner", TransactionID: 1, Data: { Provider: "Rollbook",
        ClientID: "demo", UserName: "{name}", Password: "{password}" } }))'
`},
	session.Nebula: {scheme: "http", paths: "   HTTP, and WebSocket at /", key: "key id {name}, secret", try: `  curl -s {at}/trader-api/auth/token \
    -d '{"email":"{name}","password":"{password}"}'
`},
}

const demoHead = `Rollbook demo: user {name}, password {password}. Ctrl-C ends it.

`

const demoPlaces = `  operations       {operations}   /healthz /readyz /metrics
  bus              {bus}   for operators and downstream readers
  data             {dir} ({fate})
`

const demoFoot = `
  # the operator's side
  {rollbook} session list --data {dir}
  {rollbook} user list --data {dir}
  {rollbook} resource show MY_TRADES --data {dir}
  {rollbook} session revoke --all --yes --data {dir}

  # what happened, and the proof that nobody changed it
  {rollbook} audit replay --user {name} --data {dir}
  {rollbook} tail --data {dir}
  {rollbook} audit verify --data {dir}

  # health, readiness, metrics
  curl -s {operations}/readyz
  curl -s {operations}/metrics | grep ^rollbook_commands

  # refresh, resources, logout and the rest, line by line: docs/protocols/
`
