package interop;

import com.rabbitmq.client.AMQP;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class ExchangeTest extends Broker {
    @Test
    void theDefaultExchangeReachesAQueueByItsName() throws Exception {
        String queue = queue();
        publish("", queue, "straight");
        holds(queue, "straight");
    }

    @Test
    void directRoutesByTheWholeKey() throws Exception {
        String exchange = exchange("direct");
        String red = bound(exchange, "red");
        String green = bound(exchange, "green");
        for (String key : List.of("red", "green", "blue")) {
            publish(exchange, key, key);
        }
        holds(red, "red");
        holds(green, "green");
    }

    @Test
    void fanoutReachesEveryQueueWhateverTheKey() throws Exception {
        String exchange = exchange("fanout");
        String first = bound(exchange, "");
        String second = bound(exchange, "ignored");
        publish(exchange, "a", "1");
        publish(exchange, "", "2");
        holds(first, "1", "2");
        holds(second, "1", "2");
    }

    @Test
    void topicWildcardsStandForWords() throws Exception {
        String exchange = exchange("topic");
        String star = bound(exchange, "stock.*");
        String hash = bound(exchange, "stock.#");
        String last = bound(exchange, "#.nyse");
        for (String key : List.of("stock", "stock.nyse", "stock.nyse.ibm", "bond.nyse")) {
            publish(exchange, key, key);
        }
        holds(star, "stock.nyse");
        holds(hash, "stock", "stock.nyse", "stock.nyse.ibm");
        holds(last, "stock.nyse", "bond.nyse");
    }

    @Test
    void headersMatchAllOrAny() throws Exception {
        String exchange = exchange("headers");
        String all = bound(exchange, "", Map.of("x-match", "all", "format", "pdf", "pages", 3));
        String some = bound(exchange, "", Map.of("x-match", "any", "format", "pdf", "pages", 3));
        publish(exchange, "", headers(Map.of("format", "pdf", "pages", 3)), bytes("both"));
        publish(exchange, "", headers(Map.of("format", "pdf")), bytes("one"));
        publish(exchange, "", headers(Map.of("format", "txt")), bytes("none"));
        holds(all, "both");
        holds(some, "both", "one");
    }

    private static AMQP.BasicProperties headers(Map<String, Object> headers) {
        return new AMQP.BasicProperties.Builder().headers(headers).build();
    }

    @Test
    void exchangesBoundToExchangesPassMessagesOn() throws Exception {
        String source = exchange("topic");
        String target = exchange("fanout");
        String queue = bound(target, "");
        channel.exchangeBind(target, source, "news.#");
        publish(source, "news.today", "through");
        publish(source, "weather", "not through");
        channel.exchangeUnbind(target, source, "news.#");
        publish(source, "news.today", "no longer");
        holds(queue, "through");
    }

    @Test
    void anAlternateExchangeTakesWhatNobodyIsBoundFor() throws Exception {
        String alternate = exchange("fanout");
        String queue = bound(alternate, "");
        publish(exchange("direct", Map.of("alternate-exchange", alternate)), "unknown", "caught");
        holds(queue, "caught");
    }

    @Test
    void unbindingStopsTheFlowAndUnbindingAgainIsNoError() throws Exception {
        String exchange = exchange("direct");
        String queue = bound(exchange, "key");
        channel.queueUnbind(queue, exchange, "key");
        channel.queueUnbind(queue, exchange, "key");
        publish(exchange, "key", "nobody");
        holds(queue);
    }

    @Test
    void aMissingExchangeIs404() throws Exception {
        closesChannel(404, "no exchange '", channel -> channel.exchangeDeclarePassive(unique("missing")));
        closesChannel(404, "no exchange '", channel -> channel.basicPublish(unique("missing"), "", null, bytes("")));
    }

    @Test
    void redeclaringAnExchangeOtherwiseIs406() throws Exception {
        String exchange = exchange("direct");
        channel.exchangeDeclare(exchange, "direct");
        closesChannel(406, "inequivalent arg 'type'", channel -> channel.exchangeDeclare(exchange, "fanout"));
    }

    @Test
    void anExchangeInUseIsNotDeletedIfUnused() throws Exception {
        String exchange = exchange("fanout");
        bound(exchange, "");
        closesChannel(406, "in use", channel -> channel.exchangeDelete(exchange, true));
    }
}
