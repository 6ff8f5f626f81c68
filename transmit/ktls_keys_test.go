package transmit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDeriveKTLSKeys has the trace of RFC 8448, 3, for what it derives.
func TestDeriveKTLSKeys(t *testing.T) {
	secret := unhex(t, "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")
	k, err := DeriveKTLSKeys(0x1301, secret)
	if err != nil {
		t.Fatal(err)
	}
	key, iv := unhex(t, "9f02283b6c9c07efc26bb9f2ac92e356"), unhex(t, "cf782b88dd83549aadf1e984")
	if k.Version != TLS13 || k.Cipher != AES128GCM || !bytes.Equal(k.Key, key) || !bytes.Equal(append(k.Salt, k.IV...), iv) || k.RecordSequence != [8]byte{} {
		t.Errorf("key %x, salt %x, IV %x", k.Key, k.Salt, k.IV)
	}
	for suite, n := range map[uint16]int{0x1301: 32, 0x1302: 48, 0x1303: 32} {
		k, err := DeriveKTLSKeys(suite, make([]byte, n))
		if err != nil || k.check() != nil {
			t.Errorf("%#x: %v, %v", suite, err, k.check())
		}
		for _, wrong := range []int{0, n - 1, n + 1, 80 - n} {
			if _, err := DeriveKTLSKeys(suite, make([]byte, wrong)); !errors.Is(err, errKTLSKeys) {
				t.Errorf("%#x with a secret of %d: %v", suite, wrong, err)
			}
		}
	}
	if _, err := DeriveKTLSKeys(0x1304, secret); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("AES-CCM: %v", err)
	}
}

func TestKTLSKeys(t *testing.T) {
	good := KTLSKeys{Version: TLS12, Cipher: AES256GCM, Key: bytes.Repeat([]byte{0xab}, 32), IV: []byte("ivivivIV"), Salt: []byte("salt"), RecordSequence: [8]byte{7: 9}}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	want := "\x03\x03\x34\x00ivivivIV" + strings.Repeat("\xab", 32) + "salt\x00\x00\x00\x00\x00\x00\x00\x09"
	if got := good.appendInfo(nil); string(got) != want && got[0] == 3 && got[3] == 0 {
		t.Errorf("%x", got)
	}
	for name, change := range map[string]func(k *KTLSKeys){
		"version": func(k *KTLSKeys) { k.Version = 0x0302 },
		"cipher":  func(k *KTLSKeys) { k.Cipher = 53 },
		"key":     func(k *KTLSKeys) { k.Key = k.Key[:16] },
		"iv":      func(k *KTLSKeys) { k.IV = append(k.IV, 0, 0, 0, 0) },
		"salt":    func(k *KTLSKeys) { k.Salt = nil },
		"zero":    func(k *KTLSKeys) { *k = KTLSKeys{} },
	} {
		k := good
		change(&k)
		if _, err := EnableKTLS(nil, k); !errors.Is(err, syscall.EINVAL) || !errors.Is(err, errKTLSKeys) {
			t.Errorf("%s: %v", name, err)
		}
	}
	line := KeyLogLine{Label: "L", Secret: good.Key}
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{good, &good, line, &line} {
			if s := fmt.Sprintf(f, v); strings.Contains(s, "abab") || strings.Contains(s, "171") || strings.Contains(s, "\xab") {
				t.Errorf("%s of %T prints the keys: %s", f, v, s)
			}
		}
	}
}

func TestParseKeyLogLine(t *testing.T) {
	random, secret := strings.Repeat("0f", 32), strings.Repeat("A1b2", 24)
	l, err := ParseKeyLogLine([]byte(ServerTrafficSecret + " " + random + " " + secret + "\n"))
	if err != nil || l.Label != ServerTrafficSecret || l.ClientRandom[31] != 15 || !bytes.Equal(l.Secret, unhex(t, secret)) {
		t.Errorf("%v, %v", l, err)
	}
	for _, bad := range []string{
		"", "\n", "# a comment", "X", "X " + random, "X " + random[1:] + " " + secret, "X " + random + " " + secret[1:],
		" " + random + " " + secret, "x " + random + " " + secret, "X " + random + " " + secret + " ", "X  " + random + " " + secret,
		"X " + random + " " + secret[:30], "X " + random + " " + strings.Repeat("00", 65), "X g" + random[1:] + " " + secret, "X " + random + " " + secret[1:] + "g",
		"X " + random + " " + secret + "\n\n",
	} {
		l, err := ParseKeyLogLine([]byte(bad))
		if !errors.Is(err, errKeyLog) || strings.Contains(err.Error(), secret[2:20]) {
			t.Errorf("%q: %v, %v", bad, l, err)
		}
	}
}

func FuzzParseKeyLogLine(f *testing.F) {
	f.Add([]byte(ClientTrafficSecret + " " + strings.Repeat("0f", 32) + " " + strings.Repeat("a1", 48) + "\n"))
	f.Add([]byte("CLIENT_RANDOM " + strings.Repeat("00", 32) + " " + strings.Repeat("ff", 48) + "\r\n"))
	f.Add([]byte("  \n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		l, err := ParseKeyLogLine(line)
		if err != nil {
			if l.Label != "" || l.Secret != nil {
				t.Errorf("%v with an error", l)
			}
			return
		}
		again := fmt.Sprintf("%s %x %x", l.Label, l.ClientRandom, l.Secret)
		if !strings.EqualFold(again, strings.TrimRight(string(line), "\r\n")) {
			t.Errorf("%q was read as %q", line, again)
		}
		for _, suite := range []uint16{0x1301, 0x1302, 0x1303} {
			if k, err := DeriveKTLSKeys(suite, l.Secret); err == nil && k.check() != nil {
				t.Error(k.check())
			}
		}
	})
}
