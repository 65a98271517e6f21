package advauth

import (
	"flag"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"rollbook/adapters/adapterstest"
)

var update = flag.Bool("update", false, "rewrite the golden replies")

var goldens = adapterstest.Goldens{Dir: "../../testdata/wire/advauth", Update: update}

// TestWireGoldens sends the requests of each folder in order, byte for byte but for the line ends, and compares the
// replies. The clock and the token are the venue's sample's; the only volatile value is the header Date.
func TestWireGoldens(t *testing.T) {
	for _, folder := range []string{"seed", "clients", "refusals", "desfire"} {
		t.Run(folder, func(t *testing.T) {
			cfg := sample()
			if folder == "desfire" {
				cfg.Profile = DESFire
			}
			server, _ := serve(t, cfg)
			for _, file := range goldens.Requests(t, folder, "*", 4) {
				response, body := adapterstest.Exchange(t, server, goldens.Read(t, file))
				goldens.Compare(t, file, fmt.Appendf(adapterstest.Head(response), "\n%s\n", body))
				if header := response.Header; header.Get("Cache-Control") != "no-store" || header.Get("X-Content-Type-Options") != "nosniff" ||
					response.StatusCode/100 == 3 {
					t.Errorf("%s: %d %v", file, response.StatusCode, header)
				}
			}
		})
	}
}

// TestSeedSamples holds the replies to the samples on the venue's pages: the same bytes, but for the page's indentation.
func TestSeedSamples(t *testing.T) {
	between := regexp.MustCompile(`\s*\n\s*`)
	squeeze := func(sample string) string { return between.ReplaceAllString(sample, "") }
	for form, file := range map[mediaType]string{"text/json": "response-json", "text/xml": "response-xml"} {
		want := squeeze(goldens.Read(t, "seed/"+file+".sample"))
		got := string(render(form, loginResp{schemas: bothSchemas, Token: "sample string 1", ExpireInSec: 2}))
		if form == "text/json" {
			want = strings.ReplaceAll(want, `": `, `":`)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	want := entry{login: "sample string 1", rndA: "sample string 2", rndB: "sample string 3"}
	for file, decode := range map[string]func([]byte) (entry, error){"1-advauth-json": decodeJSON, "2-advauth-xml": decodeXML} {
		_, body, _ := strings.Cut(goldens.Read(t, "seed/"+file+".request"), "\n\n")
		if got, err := decode([]byte(body)); got != want || err != nil {
			t.Errorf("%s: %+v, %v", file, got, err)
		}
	}
	cfg := sample()
	cfg.ExpireDate = MicrosoftDate
	server, _ := serve(t, cfg)
	_, body := adapterstest.Exchange(t, server, goldens.Read(t, "seed/3-login-json.request"))
	if want := squeeze(goldens.Read(t, "seed/3-login-json.sample")); body != want {
		t.Errorf("login: %s, want %s", body, want)
	}
}
