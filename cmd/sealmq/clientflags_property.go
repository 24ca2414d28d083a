package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mqtt"
)

// joinProperties makes the three or four words after -D one, joined by NUL, so
// that a flag parser can take it. Everything else stays as it is.
func joinProperties(flags *pflag.FlagSet, args []string) ([]string, error) {
	var out []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return append(out, args[i:]...), nil
		}
		property, valueNext := readFlag(flags, a)
		out = append(out, a)
		switch {
		case property:
			n := 3
			if i+2 < len(args) && strings.EqualFold(args[i+2], "user-property") {
				n = 4
			}
			words := args[i+1 : min(i+1+n, len(args))]
			if len(words) < n {
				return nil, usagef("-D needs PACKET NAME VALUE, or PACKET user-property NAME VALUE")
			}
			out = append(out, strings.Join(words, "\x00"))
			i += n
		case valueNext && i+1 < len(args):
			i++
			out = append(out, args[i])
		}
	}
	return out, nil
}

// readFlag tells whether word a is a -D whose words follow, or another flag
// whose value is the next word.
func readFlag(flags *pflag.FlagSet, a string) (property, valueNext bool) {
	if name, ok := strings.CutPrefix(a, "--"); ok {
		f := flags.Lookup(name) // not found when the value is in the same word
		return name == "property", f != nil && f.NoOptDefVal == ""
	}
	if len(a) < 2 || a[0] != '-' {
		return false, false
	}
	for i, letter := range a[1:] {
		f := flags.ShorthandLookup(string(letter))
		if f == nil || f.NoOptDefVal != "" {
			continue // a switch, others may follow in the word
		}
		if last := i+2 == len(a); last {
			return letter == 'D', true
		}
		return false, false
	}
	return false, false
}

// propertySet is what the -D flags ask for, by packet.
type propertySet struct {
	sessionExpiry                      uint32
	receiveMaximum, topicAliasMaximum  uint16
	maximumPacketSize                  uint32
	requestResponseInfo, noProblemInfo bool
	authMethod                         string
	authData                           []byte
	connect, subscribe, unsubscribe    []client.UserProperty
	publish, will                      client.Message
	subscriptionID                     uint32
	disconnect                         mqtt.Disconnect
}

// propertyPackets lists, by property, the packets that it goes with.
var propertyPackets = map[string]string{
	"authentication-data":          "CONNECT",
	"authentication-method":        "CONNECT",
	"maximum-packet-size":          "CONNECT",
	"receive-maximum":              "CONNECT",
	"request-problem-information":  "CONNECT",
	"request-response-information": "CONNECT",
	"topic-alias-maximum":          "CONNECT",
	"session-expiry-interval":      "CONNECT DISCONNECT",
	"content-type":                 "PUBLISH WILL",
	"correlation-data":             "PUBLISH WILL",
	"message-expiry-interval":      "PUBLISH WILL",
	"payload-format-indicator":     "PUBLISH WILL",
	"response-topic":               "PUBLISH WILL",
	"topic-alias":                  "PUBLISH",
	"will-delay-interval":          "WILL",
	"subscription-identifier":      "SUBSCRIBE",
	"user-property":                "CONNECT PUBLISH WILL SUBSCRIBE UNSUBSCRIBE DISCONNECT",
}

// add reads the words of one -D.
func (s *propertySet) add(words []string) error {
	if len(words) < 3 {
		return usagef("-D needs PACKET NAME VALUE, or PACKET user-property NAME VALUE")
	}
	packet, name, value := strings.ToUpper(words[0]), strings.ToLower(words[1]), words[2]
	packets, ok := propertyPackets[name]
	if !ok {
		return usagef("-D %s %s: there is no such property", words[0], words[1])
	}
	if !slices.Contains(strings.Fields(packets), packet) {
		return usagef("-D %s %s: the property goes with %s", words[0], words[1], strings.Join(strings.Fields(packets), ", "))
	}
	m := &s.publish
	if packet == "WILL" {
		m = &s.will
	}
	number := func(lo, hi uint64) (uint64, error) {
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || n < lo || n > hi {
			return 0, usagef("-D %s %s %s: a number from %d to %d", words[0], words[1], value, lo, hi)
		}
		return n, nil
	}
	var n uint64
	var err error
	switch name {
	case "authentication-data":
		s.authData = []byte(value)
	case "authentication-method":
		s.authMethod = value
	case "maximum-packet-size":
		n, err = number(1, 1<<32-1)
		s.maximumPacketSize = uint32(n)
	case "receive-maximum":
		n, err = number(1, 65535)
		s.receiveMaximum = uint16(n)
	case "topic-alias-maximum":
		n, err = number(0, 65535)
		s.topicAliasMaximum = uint16(n)
	case "request-problem-information":
		n, err = number(0, 1)
		s.noProblemInfo = n == 0
	case "request-response-information":
		n, err = number(0, 1)
		s.requestResponseInfo = n == 1
	case "session-expiry-interval":
		n, err = number(0, 1<<32-1)
		if packet == "CONNECT" {
			s.sessionExpiry = uint32(n)
		} else {
			s.disconnect.Props.SessionExpiry = uint32(n)
			s.disconnect.Props.Set(mqtt.PropSessionExpiry)
		}
	case "content-type":
		m.ContentType = value
	case "correlation-data":
		m.CorrelationData = []byte(value)
	case "message-expiry-interval":
		n, err = number(0, 1<<32-1)
		m.MessageExpiry = new(uint32(n))
	case "payload-format-indicator":
		n, err = number(0, 1)
		m.PayloadFormat = new(uint8(n))
	case "response-topic":
		m.ResponseTopic = value
	case "topic-alias":
		n, err = number(1, 65535)
		m.TopicAlias = uint16(n)
	case "will-delay-interval":
		n, err = number(0, 1<<32-1)
		m.WillDelay = uint32(n)
	case "subscription-identifier":
		n, err = number(1, 268_435_455)
		s.subscriptionID = uint32(n)
	case "user-property":
		if len(words) != 4 {
			return usagef("-D %s user-property needs a name and a value", words[0])
		}
		s.addUser(packet, m, client.UserProperty{Key: words[2], Value: words[3]})
	}
	return err
}

func (s *propertySet) addUser(packet string, m *client.Message, u client.UserProperty) {
	switch packet {
	case "CONNECT":
		s.connect = append(s.connect, u)
	case "SUBSCRIBE":
		s.subscribe = append(s.subscribe, u)
	case "UNSUBSCRIBE":
		s.unsubscribe = append(s.unsubscribe, u)
	case "DISCONNECT":
		p := &s.disconnect.Props
		p.User = append(p.User, mqtt.UserProperty{Key: []byte(u.Key), Value: []byte(u.Value)})
		p.Set(mqtt.PropUser)
	default: // PUBLISH and WILL
		m.User = append(m.User, u)
	}
}

// completeFlags offers flags to the shell: cobra does not, as it does not parse them.
func completeFlags(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if !strings.HasPrefix(toComplete, "-") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var out []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if long := "--" + f.Name; !f.Hidden && strings.HasPrefix(long, toComplete) {
			out = append(out, long+"\t"+f.Usage)
		}
	})
	return out, cobra.ShellCompDirectiveNoFileComp
}
