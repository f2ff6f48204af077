"""What MassTransit's RabbitMQ transport does to a broker, done with pika: there is no .NET here.

Every declare, bind and publish stands in the order and with the arguments of MassTransit 8 (the classes are named
where the rule comes from). What MassTransit does within a process, serializing, dependency injection, sagas, is not
here.
"""

import json
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone

import pika

CONTENT_TYPE = "application/vnd.masstransit+json"
REPLY_TO = "amq.rabbitmq.reply-to"
BUS_QUEUE_EXPIRES_MS = 60_000


class MessageType:
    """A message contract: `Namespace:Type`, and the contracts that it implements."""

    def __init__(self, namespace, name, *implements):
        self.namespace = namespace
        self.name = name
        self.implements = implements

    @property
    def exchange(self):
        """RabbitMqMessageNameFormatter, for types without generic arguments."""
        return f"{self.namespace}:{self.name}"

    @property
    def fault_exchange(self):
        """RabbitMqMessageNameFormatter of `Fault<T>`."""
        return f"MassTransit:Fault--{self.exchange}--"

    @property
    def all_implemented(self):
        return [each for direct in self.implements for each in (direct, *direct.all_implemented)]

    @property
    def urns(self):
        return [f"urn:message:{each.exchange}" for each in (self, *self.all_implemented)]


class Topology:
    """What is to be declared (BrokerTopologyBuilder): each thing once, however often it is asked for."""

    def __init__(self):
        self.queues = {}
        self.exchanges = {}
        self.queue_bindings = {}
        self.exchange_bindings = {}

    def exchange(self, name, exchange_type="fanout", durable=True, auto_delete=False, arguments=None):
        self.exchanges[name] = {
            "exchange_type": exchange_type, "durable": durable, "auto_delete": auto_delete,
            "arguments": arguments or {}}

    def queue(self, name, durable=True, auto_delete=False, exclusive=False, arguments=None):
        self.queues[name] = {
            "durable": durable, "auto_delete": auto_delete, "exclusive": exclusive, "arguments": arguments or {}}

    def bind_queue(self, exchange, queue):
        self.queue_bindings[exchange, queue] = {"routing_key": "", "arguments": {}}

    def bind_exchange(self, source, destination):
        self.exchange_bindings[source, destination] = {"routing_key": "", "arguments": {}}

    def deploy(self, channel):
        """ConfigureRabbitMqTopologyFilter: queues, exchanges, then the bindings of each."""
        for name, options in self.queues.items():
            channel.queue_declare(name, **options)
        for name, options in self.exchanges.items():
            channel.exchange_declare(name, **options)
        for (exchange, queue), options in self.queue_bindings.items():
            channel.queue_bind(queue, exchange, **options)
        for (source, destination), options in self.exchange_bindings.items():
            channel.exchange_bind(destination, source, **options)


def publish_topology(message_type):
    """RabbitMqMessagePublishTopology with its default, FlattenHierarchy: all that a message implements hangs off it."""
    topology = Topology()
    topology.exchange(message_type.exchange)
    for implemented in message_type.all_implemented:
        topology.exchange(implemented.exchange)
        topology.bind_exchange(message_type.exchange, implemented.exchange)
    return topology


def delay_topology(destination, **options):
    """RabbitMqEndpointAddress.GetDelaySettings: `<name>_delay` in front of the exchange of that name."""
    topology = Topology()
    topology.exchange(
        f"{destination}_delay", exchange_type="x-delayed-message", arguments={"x-delayed-type": "fanout"}, **options)
    topology.exchange(destination, **options)
    topology.bind_exchange(f"{destination}_delay", destination)
    return topology


@dataclass
class Endpoint:
    """A receive endpoint (RabbitMqReceiveSettings): a queue, the exchange of its name, its error and skipped queues."""

    name: str
    durable: bool = True
    auto_delete: bool = False
    queue_arguments: dict = field(default_factory=dict)
    prefetch_count: int = 16
    retries: int = 0
    redeliver_after_ms: tuple = ()

    @classmethod
    def bus(cls, name):
        """The endpoint to which answers come (RabbitMqBusFactoryConfigurator)."""
        return cls(name, durable=False, auto_delete=True, queue_arguments={"x-expires": BUS_QUEUE_EXPIRES_MS})

    def quorum(self, group_size):
        """RabbitMqQueueConfigurator.SetQuorumQueue."""
        self.queue_arguments |= {"x-queue-type": "quorum", "x-quorum-initial-group-size": group_size}
        return self

    @property
    def address(self):
        temporary = "?temporary=true" if self.auto_delete and not self.durable else ""
        return f"rabbitmq://localhost/{self.name}{temporary}"

    def topology(self, message_types):
        """RabbitMqReceiveEndpointBuilder.BuildTopology."""
        topology = self.side_topology(self.name)
        for message_type in message_types:
            topology.exchange(message_type.exchange)
            topology.bind_exchange(message_type.exchange, self.name)
        return topology

    def side_topology(self, name):
        """RabbitMqErrorSettings, RabbitMqDeadLetterSettings: as the queue itself, with all its arguments."""
        topology = Topology()
        topology.exchange(name, durable=self.durable, auto_delete=self.auto_delete)
        topology.queue(
            name, durable=self.durable,
            # Of what is beside a queue that expires, only expiry is left, as QueueExpiration says.
            auto_delete=self.auto_delete and (name == self.name or "x-expires" not in self.queue_arguments),
            arguments=dict(self.queue_arguments))
        topology.bind_queue(name, name)
        return topology


class Delivery:
    """A message as a consumer sees it (RabbitMqReceiveContext)."""

    def __init__(self, method, properties, body):
        self.method = method
        self.properties = properties
        self.body = body
        self.envelope = json.loads(body)
        self.message = self.envelope["message"]

    @property
    def redelivery_count(self):
        return self.envelope["headers"].get("MT-Redelivery-Count", 0)


class Bus:
    """One process: one connection, a channel with confirms per endpoint."""

    def __init__(self, connection):
        self.connection = connection
        self.channel = self._open()

    def _open(self):
        channel = self.connection.channel()
        channel.confirm_delivery()
        return channel

    def publish(self, message_type, message, **options):
        """To whoever subscribed to the type or to something that it implements."""
        publish_topology(message_type).deploy(self.channel)
        return self._send(self.channel, message_type.exchange, message_type, message, **options)

    def send(self, endpoint, message_type, message, **options):
        """To one endpoint, through its exchange; the address `exchange:name` declares no queue."""
        topology = Topology()
        topology.exchange(endpoint.name, durable=endpoint.durable, auto_delete=endpoint.auto_delete)
        topology.deploy(self.channel)
        return self._send(self.channel, endpoint.name, message_type, message, **options)

    def answer(self, delivery, message_type, message):
        """ConsumeContext.RespondAsync: to the response address, under the request's id."""
        request = delivery.envelope
        options = {"request_id": request["requestId"], "correlation_id": delivery.properties.correlation_id}
        if delivery.properties.reply_to:
            return self._send(
                self.channel, "", message_type, message, routing_key=delivery.properties.reply_to, **options)
        name, _, query = request["responseAddress"].rpartition("/")[2].partition("?")
        temporary = query == "temporary=true"
        endpoint = Endpoint(name, durable=not temporary, auto_delete=temporary)
        return self.send(endpoint, message_type, message, **options)

    def subscribe(self, endpoint, *handlers):
        """Declares an endpoint and consumes from it; a handler is (message type, function of a Delivery)."""
        channel = self._open()
        endpoint.topology([message_type for message_type, _ in handlers]).deploy(channel)
        channel.basic_qos(prefetch_count=endpoint.prefetch_count, global_qos=False)
        receiver = Receiver(self, channel, endpoint, handlers)
        receiver.tag = channel.basic_consume(endpoint.name, receiver.take)
        return receiver

    def _send(self, channel, exchange, message_type, message, *, routing_key="", request_id=None, correlation_id=None,
              response_address=None, reply_to=None, time_to_live_ms=None, delay_ms=None, mandatory=False, headers=None):
        """RabbitMqSendTransportContext.Send; gives the message's id."""
        message_id = str(uuid.uuid4())
        envelope = {
            "messageId": message_id, "requestId": request_id, "correlationId": correlation_id,
            "conversationId": str(uuid.uuid4()), "sourceAddress": None,
            "destinationAddress": f"rabbitmq://localhost/{exchange}",
            "responseAddress": response_address, "messageType": message_type.urns, "message": message,
            "sentTime": datetime.now(timezone.utc).isoformat(), "headers": headers or {}}
        transport_headers = {"MT-Activity-Id": uuid.uuid4().hex, **(headers or {})}
        if delay_ms:
            delay_topology(exchange).deploy(channel)
            transport_headers["x-delay"] = delay_ms
            exchange = f"{exchange}_delay"
        properties = pika.BasicProperties(
            content_type=CONTENT_TYPE, delivery_mode=2, message_id=message_id, correlation_id=correlation_id,
            reply_to=reply_to, expiration=None if time_to_live_ms is None else str(time_to_live_ms),
            headers=transport_headers)
        channel.basic_publish(exchange, routing_key, json.dumps(envelope), properties, mandatory=mandatory)
        return message_id


class Receiver:
    """Consumes one endpoint's queue (RabbitMqBasicConsumer)."""

    def __init__(self, bus, channel, endpoint, handlers):
        self.bus = bus
        self.channel = channel
        self.endpoint = endpoint
        self.handlers = handlers

    def take(self, _channel, method, properties, body):
        delivery = Delivery(method, properties, body)
        wanted = [
            (message_type, handler) for message_type, handler in self.handlers
            if f"urn:message:{message_type.exchange}" in delivery.envelope["messageType"]]
        if not wanted:
            self._move(delivery, "skipped", {"MT-Reason": "dead-letter"})
        for message_type, handler in wanted:
            self._handle(delivery, message_type, handler)
        self.channel.basic_ack(method.delivery_tag)

    def stop(self):
        self.channel.basic_cancel(self.tag)
        self.channel.close()

    def _handle(self, delivery, message_type, handler):
        """UseMessageRetry within UseDelayedRedelivery within the error transport."""
        for attempt in range(self.endpoint.retries + 1):
            try:
                handler(delivery)
                return
            except Exception as raised:  # whatever a consumer throws is a fault
                error = raised
        if delivery.redelivery_count < len(self.endpoint.redeliver_after_ms):
            self._redeliver(delivery)
        else:
            self._fault(delivery, message_type, error, attempt)

    def _redeliver(self, delivery):
        """DelayedMessageRedeliveryContext: the same message again, later, to this endpoint only."""
        delay_topology(self.endpoint.name).deploy(self.channel)
        count = delivery.redelivery_count + 1
        envelope = {**delivery.envelope, "headers": {**delivery.envelope["headers"], "MT-Redelivery-Count": count}}
        delivery.properties.headers = {
            **delivery.properties.headers, "MT-Redelivery-Count": count,
            "x-delay": self.endpoint.redeliver_after_ms[delivery.redelivery_count]}
        self.channel.basic_publish(
            f"{self.endpoint.name}_delay", "", json.dumps(envelope), delivery.properties)

    def _fault(self, delivery, message_type, error, retries):
        """Says so to whoever listens for faults, and keeps the message in the error queue."""
        topology = Topology()
        topology.exchange(message_type.fault_exchange)
        topology.exchange("MassTransit:Fault")
        topology.bind_exchange(message_type.fault_exchange, "MassTransit:Fault")
        topology.deploy(self.bus.channel)
        fault = MessageType("MassTransit", f"Fault[[{message_type.exchange}]]")
        self.bus._send(self.bus.channel, message_type.fault_exchange, fault, {
            "faultedMessageId": delivery.properties.message_id, "message": delivery.message,
            "exceptions": [{"exceptionType": type(error).__name__, "message": str(error)}]})
        delivery.properties.expiration = None
        self._move(delivery, "error", {
            "MT-Reason": "fault", "MT-Fault-ExceptionType": type(error).__name__, "MT-Fault-Message": str(error),
            "MT-Fault-InputAddress": self.endpoint.address, "MT-Fault-MessageType": message_type.exchange,
            "MT-Fault-RetryCount": retries, "MT-Fault-Timestamp": datetime.now(timezone.utc).isoformat()})

    def _move(self, delivery, where, headers):
        """RabbitMqMoveTransport: the unchanged body, mandatory and confirmed, before the message is acknowledged."""
        name = f"{self.endpoint.name}_{where}"
        self.endpoint.side_topology(name).deploy(self.channel)
        delivery.properties.headers = {
            **(delivery.properties.headers or {}), "MT-Host-MachineName": "interop", **headers}
        self.channel.basic_publish(
            name, delivery.method.routing_key, delivery.body, delivery.properties, mandatory=True)
