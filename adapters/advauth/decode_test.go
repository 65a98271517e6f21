package advauth

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

var full = entry{login: "ann", apiKey: "k", rndA: "aa", rndB: "bb"}

var jsonBodies = map[string]*entry{
	`{"Result":null,"UserLogin":"ann","ApiKey":"k","RndA":"aa","RndB":"bb"}`:                                    &full,
	` {"rndb":"bb","RNDA":"aa","userlogin":"x","X":[1,{}],"apikey":"k","UserLogin":"ann","Result":7} ` + "\r\n": &full,
	`{"UserLogin":"ann","Result":{"Message":"sample string 1","Code":2,"ModelStateErr":["sample string 1"]}}`:   {login: "ann"},
	`{"UserLogin":" \u00e9\n","RndA":null,"RndB":""}`:                                                           {login: " é\n"},
	`{}`:                          {},
	`{"UserLogin":7}`:             nil,
	`{"UserLogin":{}}`:            nil,
	`{"RndA":["aa"]}`:             nil,
	`null`:                        nil,
	`[]`:                          nil,
	`"x"`:                         nil,
	`{"UserLogin":"a"}{}`:         nil,
	`{"UserLogin":"a"} x`:         nil,
	`{"UserLogin":"a"`:            nil,
	`{'UserLogin':'a'}`:           nil,
	`UserLogin=a`:                 nil,
	strings.Repeat(`{"a":`, 9000): nil,
}

const xmlns = ` xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"`

var xmlBodies = map[string]*entry{
	`<Request><UserLogin>ann</UserLogin><ApiKey>k</ApiKey><RndA>aa</RndA><RndB>bb</RndB></Request>`: &full,
	"<?xml version=\"1.0\" encoding=\"UTF-16\"?>\n<!-- c --><Request" + xmlns + " X='1'>\n<RndB>bb</RndB><Other><UserLogin>x</UserLogin></Other><RndA>aa</RndA><Result><Message>m</Message><!-- c --></Result>" +
		"<Result/><ApiKey x='1'>k</ApiKey><UserLogin>a<![CDATA[nn]]></UserLogin></Request>\n<!-- c -->\n": &full,
	`<Request` + xmlns + `><UserLogin>&#x20;a&amp;b </UserLogin><RndA xsi:nil="true"/><RndB></RndB></Request>`:      {login: " a&b "},
	`<Request><x:UserLogin>x</x:UserLogin><UserLogin xmlns="urn:x">y</UserLogin><userlogin>z</userlogin></Request>`: {},
	`<Request/>`:                      {},
	`<Response/>`:                     nil,
	`<request/>`:                      nil,
	`<Request xmlns="urn:x"/>`:        nil,
	`<x:Request/>`:                    nil,
	`x<Request/>`:                     nil,
	`<Request/>x`:                     nil,
	`<Request/><Request/>`:            nil,
	`<Request>`:                       nil,
	`<Request><UserLogin>a</Request>`: nil,
	`<Request><UserLogin>a<b>x</b></UserLogin></Request>`:                               nil,
	`<Request><UserLogin>ad<!-- -->min</UserLogin></Request>`:                           nil,
	`<Request><UserLogin>ad<?x?>min</UserLogin></Request>`:                              nil,
	`<Request><UserLogin>a</UserLogin><UserLogin>b</UserLogin></Request>`:               nil,
	`<!DOCTYPE Request><Request/>`:                                                      nil,
	`<!DOCTYPE Request [<!ENTITY x "y">]><Request><UserLogin>&x;</UserLogin></Request>`: nil,
	`<Request><Result><!ELEMENT x></Result></Request>`:                                  nil,
	`<Request><UserLogin>&x;</UserLogin></Request>`:                                     nil,
	`<?xml version="1.0" encoding="iso-8859-1"?><Request/>`:                             nil,
	`<?xml version="1.1"?><Request/>`:                                                   nil,
	`<Request/><!DOCTYPE x>`:                                                            nil,
	`{}`:                                                                                nil,
	``:                                                                                  nil,
	"<Request><UserLogin>\x00</UserLogin></Request>":                                    nil,
	strings.Repeat("<Request>", 900):                                                    nil,
}

func TestDecoders(t *testing.T) {
	for decoder, bodies := range map[string]map[string]*entry{"JSON": jsonBodies, "XML": xmlBodies} {
		decode := map[string]func([]byte) (entry, error){"JSON": decodeJSON, "XML": decodeXML}[decoder]
		for body, want := range bodies {
			got, err := decode([]byte(body))
			switch {
			case want == nil && err == nil:
				t.Errorf("%s: %q is read as %+v", decoder, body, got)
			case want != nil && (err != nil || got != *want):
				t.Errorf("%s: %q is %+v, %v, want %+v", decoder, body, got, err, *want)
			}
		}
	}
}

func encode16(text string, mark string) string {
	var out strings.Builder
	out.WriteString(mark)
	for _, unit := range utf16.Encode([]rune(text)) {
		high, low := byte(unit>>8), byte(unit)
		if mark == "\xfe\xff" {
			out.Write([]byte{high, low})
		} else {
			out.Write([]byte{low, high})
		}
	}
	return out.String()
}

// TestBodies reads each kind of body through the handler: which content types there are, which encodings, which bounds.
func TestBodies(t *testing.T) {
	server, _ := serve(t, sample())
	jsonBody, xmlBody := `{"UserLogin":"Zoë 😀"}`, `<?xml version="1.0" encoding="utf-16"?><Request><UserLogin>Zoë 😀</UserLogin></Request>`
	for _, test := range []struct {
		contentType, body string
		status            int
		text              string // in the reply
	}{
		{"application/json", jsonBody, 200, `{"RndB":"`},
		{"text/json; charset=nonsense", jsonBody, 200, `{"RndB":"`},
		{"TEXT/JSON;charset", jsonBody, 200, `{"RndB":"`},
		{"application/json", "\xef\xbb\xbf" + jsonBody, 200, `{"RndB":"`},
		{"application/json; charset=UTF-16", encode16(jsonBody, ""), 200, `{"RndB":"`},
		{"application/json", encode16(jsonBody, "\xff\xfe"), 200, `{"RndB":"`},
		{"application/xml", xmlBody, 200, `<RndB>`},
		{"text/xml; charset=utf-8", "\xef\xbb\xbf" + xmlBody, 200, `<RndB>`},
		{"text/xml", encode16(xmlBody, "\xff\xfe"), 200, `<RndB>`},
		{"application/xml", encode16(xmlBody, "\xfe\xff"), 200, `<RndB>`},
		{"application/json; charset=utf-16", encode16(jsonBody, "") + "x", 400, "UTF-8"},
		{"application/json", "\xff\xfe\x00\xd8", 400, "UTF-8"},
		{"application/json", `{"UserLogin":"` + "\xff" + `"}`, 400, "UTF-8"},
		{"application/json", xmlBody, 400, "not one JSON object"},
		{"application/xml", jsonBody, 400, "not one element Request"},
		{"application/x-www-form-urlencoded", "UserLogin=x", 415, "media type 'application/x-www-form-urlencoded' is not supported"},
		{"", jsonBody, 415, "'application/octet-stream'"},
		{"no type at all", jsonBody, 415, "'application/octet-stream'"},
		{"application/json", "", 400, "A request body is required."},
		{"text/plain", "", 400, "A request body is required."},
		{"", "", 400, "A request body is required."},
		{"application/json", `{"UserLogin":" \t"}`, 400, "The UserLogin field is required."},
		{"application/json", `{"UserLogin":"` + strings.Repeat("x", maxLogin+1) + `"}`, 400, "longer than 1024 bytes"},
		{"application/json", `{"UserLogin":"x","X":"` + strings.Repeat("x", 16<<10) + `"}`, 400, "larger than 16384 bytes"},
		{"application/json", `{"UserLogin":"x","X":"` + strings.Repeat("x", 3<<20) + `"}`, 400, "larger than 16384 bytes"},
	} {
		s := ask(t, server, "POST", "/login/advAuthInit", test.body, "Content-Type: "+test.contentType)
		if s.status != test.status || !strings.Contains(s.raw, test.text) || (s.Code == 1002) != (s.status == 400) {
			t.Errorf("%s %.40q: %d %s", test.contentType, test.body, s.status, s.raw)
		}
	}
	for name, body := range map[string]string{"RndA": `{"UserLogin":"x","RndA":"0"}`, "RndB": `{"UserLogin":"x","RndB":"000102030405060708090a0b0c0d0e0g"}`,
		"RndA,RndB": `{"UserLogin":"x","RndA":"00010203-0405-0607-0809-0a0b0c0d0e0f","RndB":"0x0102030405060708090a0b0c0d0e0f00"}`} {
		var want []string
		for half := range strings.SplitSeq(name, ",") {
			want = append(want, "The "+half+" field must be 16 bytes in hexadecimal format.")
		}
		if s := ask(t, server, "POST", "/login/advAuth", body); s.status != 400 || s.Code != 1002 || !slices.Equal(s.ModelStateErr, want) {
			t.Errorf("%s: %d %s", body, s.status, s.raw)
		}
	}
	upper := client{login: sampleLogin, key: keyOf(sampleKey), a: &vectorRa}
	body := upper.answer(upper.challenge(t, server))
	rndB := strings.Split(body, `"RndB":"`)[1][:32]
	if s := ask(t, server, "POST", "/login/advAuth", strings.Replace(body, rndB, ` `+strings.ToUpper(rndB)+`\n`, 1)); s.status != 200 {
		t.Errorf("digits in upper case, with space around: %d %s", s.status, s.raw)
	}
}

// TestNegotiation holds the choice to that of the venue's framework.
func TestNegotiation(t *testing.T) {
	for _, test := range []struct{ accept, contentType, want string }{
		{"", "", "application/json"},
		{"", "text/xml", "text/xml"},
		{"", "application/xml; charset=utf-8", "application/xml"},
		{"", "text/json", "text/json"},
		{"*/*", "application/xml", "application/json"},
		{"text/*", "", "text/json"},
		{"application/xml, application/json", "", "application/json"},
		{"application/xml", "", "application/xml"},
		{"TEXT/XML", "application/json", "text/xml"},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "", "application/xml"},
		{"text/html", "application/xml", "application/xml"},
		{"image/png", "", "application/json"},
		{"*/*, text/json", "", "text/json"},
		{"text/xml;q=0.9, application/json;q=0.8", "", "text/xml"},
		{"application/json;q=0.5, text/json;q=0.6", "", "text/json"},
		{"text/xml;q=0.5, application/xml;q=0.6, */*;q=0.1", "", "application/xml"},
		{"application/xml;q=1.5", "", "application/json"},
		{"application/xml;q=NaN", "", "application/json"},
		{`application/json;x="a,b;q=0.1", application/xml;q=0.9`, "", "application/json"},
		{"*, application/xml/x, */xml, ;;;, application/", "", "application/json"},
		{"text/xml, ;;;", "", "text/xml"},
	} {
		header := http.Header{}
		if test.accept != "" {
			header.Set("Accept", test.accept)
		}
		if test.contentType != "" {
			header.Set("Content-Type", test.contentType)
		}
		if got := negotiate(header); string(got) != test.want {
			t.Errorf("Accept %q, Content-Type %q: %s, want %s", test.accept, test.contentType, got, test.want)
		}
	}
	if got := negotiate(http.Header{"Accept": {"image/png", "text/xml"}}); got != "text/xml" {
		t.Errorf("of two lines: %s", got)
	}
}

func FuzzDecode(f *testing.F) {
	for body := range jsonBodies {
		f.Add([]byte(body), "application/json; charset=utf-8")
	}
	for body := range xmlBodies {
		f.Add([]byte(body), "text/xml")
		f.Add([]byte(encode16(body, "\xff\xfe")), "application/xml; charset=utf-16")
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		r := httptest.NewRequest("POST", "/login/advAuth", strings.NewReader(string(body)))
		r.Header.Set("Content-Type", contentType)
		h := pod(t, sample(), newFakeGate(t))
		e, fault := h.readEntry(&call{w: httptest.NewRecorder(), r: r})
		if fault == nil {
			if strings.TrimSpace(e.login) == "" || len(e.login) > maxLogin || !utf8.ValidString(e.login+e.apiKey+e.rndA+e.rndB) {
				t.Fatalf("%q is read as %+v", body, e)
			}
			checkRead(t, e)
			_, fault = e.answer()
		}
		if text, ok := toUTF8(body, ""); ok && !bytes.ContainsRune(text, utf8.RuneError) {
			for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
				if again, ok := toUTF8([]byte(encode16(string(text), mark)), contentType); !ok || !bytes.Equal(again, text) {
					t.Fatalf("%q in UTF-16 is read as %q", text, again)
				}
			}
		}
		if fault != nil && !slices.Contains(documented, fmt.Sprintf("%d/%d", fault.status, fault.code)) {
			t.Fatalf("%+v", fault)
		}
	})
}

// checkRead: an entry that was read is the same when it is written down in either form and read again.
func checkRead(t *testing.T, e entry) {
	t.Helper()
	text, err := json.Marshal(map[string]string{"UserLogin": e.login, "ApiKey": e.apiKey, "RndA": e.rndA, "RndB": e.rndB})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := decodeJSON(text); err != nil || again != e {
		t.Fatalf("%+v is %s in JSON, and that is %+v, %v", e, text, again, err)
	}
	var out bytes.Buffer
	out.WriteString("<Request>")
	for _, member := range [][2]string{{"RndB", e.rndB}, {"RndA", e.rndA}, {"ApiKey", e.apiKey}, {"UserLogin", e.login}} {
		fmt.Fprintf(&out, "<%s>", member[0])
		if err := xml.EscapeText(&out, []byte(member[1])); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "</%s>", member[0])
	}
	out.WriteString("</Request>")
	if bytes.ContainsRune(out.Bytes(), utf8.RuneError) {
		return // XML cannot say every text
	}
	if again, err := decodeXML(out.Bytes()); err != nil || again != e {
		t.Fatalf("%+v is %s in XML, and that is %+v, %v", e, out.Bytes(), again, err)
	}
}

func FuzzNegotiate(f *testing.F) {
	f.Add("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/xml")
	f.Add(`a/b;q="\",", */*;q=0`, "application/json;;;")
	f.Fuzz(func(t *testing.T, accept, contentType string) {
		got := negotiate(http.Header{"Accept": {accept}, "Content-Type": {contentType}})
		if !got.in(jsonTypes) && !got.in(xmlTypes) {
			t.Fatalf("%q", got)
		}
		if (strings.TrimSpace(accept) == "*/*" || accept == "application/json") && got != "application/json" {
			t.Fatalf("%q gives %q", accept, got)
		}
	})
}

func FuzzGUID(f *testing.F) {
	for _, text := range []string{sampleToken, "{" + sampleToken + "}", "(" + sampleToken + "}", strings.ReplaceAll(sampleToken, "-", ""), "%7b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if token, ok := parseGUID(text); ok {
			again, still := parseGUID(strings.ToUpper(token))
			if !still || again != token || len(token) != 36 {
				t.Fatalf("%q is %q", text, token)
			}
		}
	})
}
