package traderevolution

import (
	"encoding/json"
	"flag"
	"strings"
	"testing"

	"rollbook/adapters/adapterstest"
)

var update = flag.Bool("update", false, "rewrite the golden replies")

var goldens = adapterstest.Goldens{Dir: "../../testdata/wire/traderevolution", Update: update}

// TestWireGoldens sends the requests of each folder in order to a real gate, byte for byte but for the line ends and the
// tokens, and compares the replies. A token stands in the files as the name of the member that gave it, in braces;
// {operatorToken} is an operator's access token. The clock stands still but for the work, which lifetimes do not show.
func TestWireGoldens(t *testing.T) {
	for folder, cfg := range map[string]Config{"seed": free(), "clients": free(), "refusals": free(), "standard": {CallRate: -1, StandardStatus: true}} {
		t.Run(folder, func(t *testing.T) {
			c := newClient(t, cfg, newHouse(t, nil).gate(nil))
			tokens := map[string]string{"operatorToken": c.login("admin", "secret").AccessToken}
			for _, file := range goldens.Requests(t, folder, "*", 3) {
				request := goldens.Read(t, file)
				for name, token := range tokens {
					request = strings.ReplaceAll(request, "{"+name+"}", token)
				}
				response, body := adapterstest.Exchange(t, c.server, request)
				var members map[string]any
				if err := json.Unmarshal([]byte(body), &members); err != nil {
					t.Fatalf("%s: %v in %q", file, err, body)
				}
				for _, name := range []string{"accessToken", "refreshToken", "token"} {
					if token, is := members[name].(string); is {
						tokens[name] = token
						body = strings.ReplaceAll(body, token, "{"+name+"}")
					}
				}
				response.Header.Del("Content-Length") // of the reply as it was sent
				goldens.Compare(t, file, append(append(adapterstest.Head(response), '\n'), body...))
			}
		})
	}
}
