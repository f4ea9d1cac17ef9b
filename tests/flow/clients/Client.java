// SPDX-License-Identifier: Apache-2.0
//
// Sends what every client of test_http_source_clients.py sends, by Java's java.net.http:
// Client URL TOKEN [CA]. Prints a JSON object: the statuses by name.
import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import java.util.zip.GZIPOutputStream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Client {
    static HttpClient client;
    static String url, token;

    static HttpRequest.Builder to(BodyPublisher body) {
        return HttpRequest.newBuilder(URI.create(url)).setHeader("Content-Type", "application/json")
            .setHeader("Authorization", "Bearer " + token).POST(body);
    }

    static int send(HttpRequest.Builder request) {
        try {
            return client.send(request.build(), BodyHandlers.ofString()).statusCode();
        } catch (Exception e) {
            e.printStackTrace();
            return 0;
        }
    }

    static int send(String body) {
        return send(to(BodyPublishers.ofString(body)));
    }

    static SSLContext trust(String file) throws Exception {
        KeyStore roots = KeyStore.getInstance(KeyStore.getDefaultType());
        roots.load(null);
        try (FileInputStream in = new FileInputStream(file)) {
            roots.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(roots);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    static byte[] gzip(String text) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try (GZIPOutputStream pack = new GZIPOutputStream(out)) {
            pack.write(text.getBytes(StandardCharsets.UTF_8));
        }
        return out.toByteArray();
    }

    public static void main(String[] args) throws Exception {
        url = args[0];
        token = args[1];
        HttpClient.Builder builder = HttpClient.newBuilder();
        if (args.length > 2)
            builder.sslContext(trust(args[2]));
        client = builder.build(); // asks for HTTP/2 first, by Upgrade or ALPN
        List<byte[]> lines = new ArrayList<>();
        for (int n = 0; n < 100; n++)
            lines.add(("{\"from\":\"stream\",\"n\":" + n + "}\n").getBytes(StandardCharsets.UTF_8));
        Map<String, Integer> found = new TreeMap<>();
        found.put("object", send("{\"from\":\"object\"}"));
        found.put("array", send("[{\"from\":\"array\"},{\"from\":\"array\"}]"));
        found.put("stream", send(to(BodyPublishers.ofByteArrays(lines))
            .setHeader("Content-Type", "application/x-ndjson")));
        found.put("gzip", send(to(BodyPublishers.ofByteArray(gzip("[{\"from\":\"gzip\"}]")))
            .setHeader("Content-Encoding", "gzip")));
        found.put("expect", send(to(BodyPublishers.ofString("{\"from\":\"expect\"}")).expectContinue(true)));
        found.put("bad", send("{\"from\":"));
        found.put("token", send(to(BodyPublishers.ofString("{}")).setHeader("Authorization", "Bearer nobody")));
        found.put("large", send("\"" + "x".repeat(3 << 20) + "\""));
        for (int n = 0; n < 20; n++) {
            int status = send("{\"from\":\"row\",\"n\":" + n + "}");
            if (status != 200)
                found.put("row", status);
        }
        List<CompletableFuture<Integer>> all = IntStream.range(0, 40).mapToObj(n -> client.sendAsync(
            to(BodyPublishers.ofString("{\"from\":\"many\",\"n\":" + n + "}")).build(), BodyHandlers.ofString())
            .thenApply(answer -> answer.statusCode())).toList();
        for (CompletableFuture<Integer> one : all)
            if (one.get() != 200)
                found.put("many", one.get());
        StringBuilder out = new StringBuilder("{");
        found.forEach((name, status) -> out.append(out.length() > 1 ? "," : "").append('"').append(name)
            .append("\":").append(status));
        System.out.println(out.append("}"));
    }
}
