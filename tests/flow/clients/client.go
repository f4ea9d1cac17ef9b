// SPDX-License-Identifier: Apache-2.0
//
// Sends what every client of test_http_source_clients.py sends, by Go's net/http:
// client URL TOKEN [CA]. Prints a JSON object: the statuses by name.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

var client = &http.Client{}
var url, token string

func send(body io.Reader, headers ...string) int {
	request, err := http.NewRequest("POST", url, body)
	if err != nil {
		panic(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	answer, err := client.Do(request)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 0
	}
	defer answer.Body.Close()
	if _, err = io.Copy(io.Discard, answer.Body); err != nil {
		panic(err)
	}
	return answer.StatusCode
}

func main() {
	url, token = os.Args[1], os.Args[2]
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	if len(os.Args) > 3 {
		pem, err := os.ReadFile(os.Args[3])
		if err != nil {
			panic(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	client.Transport = transport
	var packed bytes.Buffer
	pack := gzip.NewWriter(&packed)
	pack.Write([]byte(`[{"from":"gzip"}]`))
	pack.Close()
	reader, writer := io.Pipe() // of no known length: chunked
	go func() {
		for n := 0; n < 100; n++ {
			fmt.Fprintf(writer, "{\"from\":\"stream\",\"n\":%d}\n", n)
		}
		writer.Close()
	}()
	found := map[string]int{
		"object": send(strings.NewReader(`{"from":"object"}`)),
		"array":  send(strings.NewReader(`[{"from":"array"},{"from":"array"}]`)),
		"stream": send(reader, "Content-Type", "application/x-ndjson"),
		"gzip":   send(&packed, "Content-Encoding", "gzip"),
		"expect": send(strings.NewReader(`{"from":"expect"}`), "Expect", "100-continue"),
		"bad":    send(strings.NewReader(`{"from":`)),
		"token":  send(strings.NewReader(`{}`), "Authorization", "Bearer nobody"),
		"large":  send(strings.NewReader(`"` + strings.Repeat("x", 3<<20) + `"`)),
	}
	for n := 0; n < 20; n++ {
		if status := send(strings.NewReader(fmt.Sprintf(`{"from":"row","n":%d}`, n))); status != 200 {
			found["row"] = status
		}
	}
	var all sync.WaitGroup
	var mutex sync.Mutex
	for n := 0; n < 40; n++ {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			status := send(strings.NewReader(fmt.Sprintf(`{"from":"many","n":%d}`, n)))
			mutex.Lock()
			defer mutex.Unlock()
			if status != 200 {
				found["many"] = status
			}
		}(n)
	}
	all.Wait()
	json.NewEncoder(os.Stdout).Encode(found)
}
