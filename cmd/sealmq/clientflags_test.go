package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

func TestJoinProperties(t *testing.T) {
	cmd := newPubCmd()
	for in, want := range map[string]string{
		"-t a -D PUBLISH content-type x -m b":      "-t|a|-D|PUBLISH~content-type~x|-m|b",
		"-D PUBLISH user-property k v a/b":         "-D|PUBLISH~user-property~k~v|a/b",
		"--property connect USER-PROPERTY k -D -r": "--property|connect~USER-PROPERTY~k~-D|-r",
		"-m -D x":                    "-m|-D|x",
		"-m-D x y z":                 "-m-D|x|y|z",
		"-rD PUBLISH content-type x": "-rD|PUBLISH~content-type~x",
		"-rt -D -n":                  "-rt|-D|-n",
		"--message -D -- -D a b c":   "--message|-D|--|-D|a|b|c",
		"-D WILL will-delay-interval 5 -D PUBLISH content-type -x": "-D|WILL~will-delay-interval~5|-D|PUBLISH~content-type~-x",
		"": "",
	} {
		got, err := joinProperties(cmd.Flags(), strings.Fields(in))
		if text := strings.ReplaceAll(strings.Join(got, "|"), "\x00", "~"); err != nil || text != want {
			t.Errorf("%s\n got %s\nwant %s %v", in, text, want, err)
		}
	}
	for _, in := range []string{"-D", "-D PUBLISH", "-D PUBLISH content-type", "-D PUBLISH user-property k"} {
		if got, err := joinProperties(cmd.Flags(), strings.Fields(in)); exitCode(err) != exitUsage {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
}

func TestPropertySet(t *testing.T) {
	var s propertySet
	for _, words := range []string{
		"PUBLISH content-type text", "publish Message-Expiry-Interval 0", "PUBLISH payload-format-indicator 1",
		"PUBLISH correlation-data c", "PUBLISH response-topic r", "PUBLISH topic-alias 2", "PUBLISH user-property a b", "PUBLISH user-property a c",
		"WILL will-delay-interval 9", "WILL user-property w x", "CONNECT receive-maximum 3", "CONNECT session-expiry-interval 8",
		"CONNECT request-problem-information 0", "CONNECT authentication-method M", "SUBSCRIBE user-property s t",
		"SUBSCRIBE subscription-identifier 77", "DISCONNECT session-expiry-interval 4", "DISCONNECT user-property d e",
	} {
		if err := s.add(strings.Fields(words)); err != nil {
			t.Errorf("%s: %v", words, err)
		}
	}
	want := client.Message{
		ContentType: "text", MessageExpiry: new(uint32(0)), PayloadFormat: new(uint8(1)), CorrelationData: []byte("c"),
		ResponseTopic: "r", TopicAlias: 2, User: []client.UserProperty{{Key: "a", Value: "b"}, {Key: "a", Value: "c"}},
	}
	if d := cmp.Diff(want, s.publish); d != "" {
		t.Error(d)
	}
	if s.will.WillDelay != 9 || len(s.will.User) != 1 || s.receiveMaximum != 3 || s.sessionExpiry != 8 || !s.noProblemInfo ||
		s.authMethod != "M" || len(s.subscribe) != 1 || s.subscriptionID != 77 ||
		s.disconnect.Props.SessionExpiry != 4 || len(s.disconnect.Props.User) != 1 || !s.disconnect.Props.Has(mqtt.PropUser) {
		t.Errorf("%+v", s)
	}
	for _, words := range []string{
		"PUBLISH nothing 1", "PUBACK user-property a b", "PUBLISH will-delay-interval 1", "CONNECT receive-maximum 0",
		"CONNECT receive-maximum 65536", "PUBLISH payload-format-indicator 2", "PUBLISH topic-alias 0", "PUBLISH message-expiry-interval -1",
		"AUTH authentication-data x", "PUBLISH user-property k",
	} {
		if err := s.add(strings.Fields(words)); exitCode(err) != exitUsage {
			t.Errorf("%s: %v", words, err)
		}
	}
}

// Every flag of the mosquitto clients that people have in their fingers.
func TestMosquittoFlags(t *testing.T) {
	shared := "-h -p -t -q -i -I -u -P -k -c -x -V -D -d -L -A -S --unix --id --id-prefix --username --pw --keepalive " +
		"--disable-clean-session --protocol-version --property --debug --url --host --port --topic --qos --quiet --nodelay " +
		"--will-topic --will-payload --will-qos --will-retain --cafile --capath --cert --key --insecure " +
		"--tls-version --tls-alpn --tls-use-os-certs -W"
	for name, c := range map[string]struct {
		flags *pflag.FlagSet
		own   string
	}{
		"pub": {newPubCmd().Flags(), "-m -f -l -s -n -r -M --message --file --stdin-line --stdin-file --null-message --retain --repeat --repeat-delay --json"},
		"sub": {newSubCmd().Flags(), "-C -E -F -N -R -T -U -v --verbose --filter-out --unsubscribe --retained-only --remove-retained --retain-as-published --pretty --random-filter --json"},
		"rr":  {newRRCmd().Flags(), "-e -m -f -s -n -F -N -R -v --pretty --json"},
	} {
		for _, f := range strings.Fields(shared + " " + c.own) {
			found := c.flags.Lookup(strings.TrimPrefix(f, "--"))
			if !strings.HasPrefix(f, "--") {
				found = c.flags.ShorthandLookup(f[1:])
			}
			if found == nil {
				t.Errorf("%s has no %s", name, f)
			}
		}
		if h := c.flags.ShorthandLookup("h"); h.Name != "host" {
			t.Errorf("%s: -h is %s", name, h.Name)
		}
	}
}

// What decides between TLS and none: nothing goes in the clear unasked.
func TestResolve(t *testing.T) {
	for args, want := range map[string]struct {
		secure bool
		port   uint16
		code   int
	}{
		"":                            {true, 8883, 0},
		"-p 8883":                     {true, 8883, 0},
		"-p 21000":                    {true, 21000, 0},
		"-p 1883":                     {false, 1883, 0},
		"-p 1883 --cafile x":          {true, 1883, 0},
		"--no-tls":                    {false, 1883, 0},
		"--no-tls -p 7":               {false, 7, 0},
		"--no-tls --cafile x":         {false, 0, exitUsage},
		"-L mqtts://h/t":              {true, 8883, 0},
		"-L mqtt://h:5/t":             {false, 5, 0},
		"-L mqtt://h/t --cafile x":    {false, 0, exitUsage},
		"--insecure":                  {true, 8883, 0},
		"--insecure -u a -P b":        {true, 0, exitUsage},
		"--insecure -L mqtts://a:b@h": {true, 0, exitUsage},
		"--insecure -P b --insecure-yes-send-credentials": {true, 8883, 0},
		"-L http://h":          {false, 0, exitUsage},
		"--ws":                 {true, 8883, 0},
		"--ws --no-tls":        {false, 1883, 0},
		"-L wss://h/mqtt":      {true, 443, 0},
		"-L ws://h":            {false, 80, 0},
		"-L wss://h:9/":        {true, 9, 0},
		"-L ws://h --cafile x": {false, 0, exitUsage},
		"--ws -L mqtts://h/t":  {true, 8883, 0},
		"--unix /s":            {false, 1883, 0},
	} {
		o := &clientOptions{}
		cmd := newVersionCmd()
		o.cmd = cmd
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		o.define(flags)
		o.given = flags.Changed
		cmd.SetErr(new(strings.Builder))
		if err := flags.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		err := o.check()
		if err == nil {
			err = o.resolve()
		}
		if exitCode(err) != want.code || err == nil && (o.secure != want.secure || o.port != want.port) {
			t.Errorf("%s: TLS %v, port %d, %v", args, o.secure, o.port, err)
		}
	}
}
