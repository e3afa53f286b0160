/** Behaviours of the message bus, as its documentation has them. */
import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { BrokerBus, BrokerBusChannel, provideBusChannel, provideBusSubject } from "@deepkit/broker";
import { InjectorContext } from "@deepkit/injector";
import { Subject, skip } from "rxjs";
import { type Behaviour, moment } from "./behaviour.js";
import { until } from "./cluster.js";

interface Event {
  id: number;
  at: Date;
}

const event = (id: number): Event => ({ id, at: new Date(id) });

/** The channels that are provided by type. */
type Events = BrokerBusChannel<Event>;
type EventSubject = Subject<Event>;

/** All of them. */
export const busBehaviours: readonly Behaviour[] = [
  {
    name: "bus: all subscribers of a channel have each message, until they release it",
    async run({ adapter, soonMs }) {
      const channel = new BrokerBus(adapter).channel<Event>("events");
      const first: Event[] = [];
      const second: Event[] = [];
      const releaseFirst = await channel.subscribe((message) => void first.push(message));
      const releaseSecond = await channel.subscribe((message) => void second.push(message));
      await channel.publish(event(1));
      await until("both have it", () => first.length === 1 && second.length === 1, soonMs);
      assert.deepEqual(first, [event(1)]);
      await releaseFirst();
      await channel.publish(event(2));
      await until("the other one has it", () => second.length === 2, soonMs);
      await releaseSecond();
      await channel.publish(event(3));
      await moment(100);
      assert.deepEqual([first.length, second.length], [1, 2]);
    },
  },
  {
    name: "bus: a subject is subscribed with its first observer, and not with its last one",
    async run({ adapter, soonMs }) {
      const bus = new BrokerBus(adapter);
      const subject = await bus.activateSubject(bus.subject<Event>("subject"));
      const first: number[] = [];
      const second: number[] = [];
      const one = subject.subscribe(({ id }) => first.push(id));
      const two = subject.subscribe(({ id }) => second.push(id));
      subject.next(event(1));
      await until("both have it", () => first.length === 1 && second.length === 1, soonMs);
      one.unsubscribe();
      subject.next(event(2));
      await until("the other one has it", () => second.length === 2, soonMs);
      two.unsubscribe();
      subject.next(event(3));
      await moment(100);
      assert.deepEqual([first, second], [[1], [1, 2]]);
    },
  },
  {
    name: "bus: subjects of two buses on the same broker hear each other",
    async run({ adapter, soonMs }) {
      const left = new BrokerBus(adapter);
      const right = new BrokerBus(adapter);
      const heard: number[] = [];
      const listening = await right.activateSubject(right.subject<Event>("shared"));
      listening.subscribe(({ id }) => heard.push(id));
      left.subject<Event>("shared").next(event(1));
      await until("it is heard", () => heard.length === 1, soonMs);
      right.subject<Event>("shared").next(event(2));
      await until("its own is heard", () => heard.length === 2, soonMs);
      assert.deepEqual(heard, [1, 2]);
    },
  },
  {
    name: "bus: a subject goes through the operators of rxjs",
    async run({ adapter, soonMs }) {
      const bus = new BrokerBus(adapter);
      const subject = await bus.activateSubject(bus.subject<Event>("piped"));
      const heard: number[] = [];
      subject.pipe(skip(1)).subscribe(({ id }) => heard.push(id));
      for (const id of [1, 2, 3]) subject.next(event(id));
      await until("the others are heard", () => heard.length === 2, soonMs);
      assert.deepEqual(heard, [2, 3]);
    },
  },
  {
    name: "bus: an activated subject keeps messages for its first observer",
    async run({ adapter, soonMs }) {
      const bus = new BrokerBus(adapter);
      const subject = await bus.activateSubject(bus.subject<Event>("activated"));
      let published = 0;
      const counting = await bus.channel<Event>("activated").subscribe(() => void (published += 1));
      subject.next(event(1));
      subject.next(event(2));
      await until("both were published", () => published === 2, soonMs);
      const heard: number[] = [];
      subject.subscribe(({ id }) => heard.push(id));
      assert.deepEqual(heard, [1, 2]);
      await counting();
    },
  },
  {
    name: "bus: a subject that nobody refers to is not subscribed any more",
    async run({ adapter }) {
      setFlagsFromString("--expose-gc");
      const collect = runInNewContext("gc") as () => void;
      let subscribed = 0;
      const counting = new Proxy(adapter, {
        get: (target, name) => {
          const value = Reflect.get(target, name) as unknown;
          if (name === "subscribe") {
            return async (...given: Parameters<typeof adapter.subscribe>) => {
              const release = await target.subscribe(...given);
              subscribed += 1;
              return () => {
                subscribed -= 1;
                return release();
              };
            };
          }
          return typeof value === "function" ? (value.bind(target) as unknown) : value;
        },
      });
      const bus = new BrokerBus(counting);
      await (async () => void (await bus.activateSubject(bus.subject<Event>("collected"))))();
      assert.equal(subscribed, 1);
      await until("it is released", () => {
        collect();
        return subscribed === 0;
      });
    },
  },
  {
    name: "bus: a channel is provided to those who ask for its type",
    async run({ adapter, soonMs }) {
      const injector = InjectorContext.forProviders([
        { provide: BrokerBus, useValue: new BrokerBus(adapter) },
        provideBusChannel<Events>("provided"),
      ]);
      const channel = injector.get<Events>();
      const heard: number[] = [];
      await channel.subscribe(({ id }) => void heard.push(id));
      await injector.get<Events>().publish(event(4));
      await until("it is heard", () => heard.length === 1, soonMs);
      assert.equal(channel, injector.get<Events>());
    },
  },
  {
    name: "bus: a subject is provided to those who ask for its type, to each his own",
    async run({ adapter, soonMs }) {
      const bus = new BrokerBus(adapter);
      const injector = InjectorContext.forProviders([
        { provide: BrokerBus, useValue: bus },
        provideBusSubject<EventSubject>("provided-subject"),
      ]);
      const listening = await bus.activateSubject(injector.get<EventSubject>());
      const heard: number[] = [];
      listening.subscribe(({ id }) => heard.push(id));
      const sending = injector.get<EventSubject>();
      assert.notEqual(sending, listening);
      sending.next(event(5));
      await until("it is heard", () => heard.length === 1, soonMs);
    },
  },
  {
    name: "bus: names of channels are exact",
    async run({ adapter, soonMs }) {
      const bus = new BrokerBus(adapter);
      const heard: string[] = [];
      for (const name of ["user.*", "user.?", "user.[ab]", "user\\.a", "user.a"]) {
        await bus.channel<string>(name).subscribe((message) => void heard.push(`${name}<${message}`));
      }
      await bus.channel<string>("user.a").publish("1");
      await bus.channel<string>("user.*").publish("2");
      await bus.channel<string>("user.[ab]").publish("3");
      await bus.channel<string>("user\\.a").publish("4");
      await until("each has its own", () => heard.length >= 4, soonMs);
      assert.deepEqual(heard.sort(), ["user.*<2", "user.[ab]<3", "user.a<1", "user\\.a<4"]);
    },
  },
  {
    name: "bus: a message of another type is refused before it is sent",
    async run({ adapter }) {
      const channel = new BrokerBus(adapter).channel<Event>("typed");
      await assert.rejects(channel.publish({ id: "1" } as unknown as Event), /id/);
    },
  },
];
