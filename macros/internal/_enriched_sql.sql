{% macro _enriched_sql(target, columns) %}
  {%- set results = dbt_enrich._existing_work_relation(target, 'results') -%}
  {%- set there = adapter.get_columns_in_relation(results) | map(attribute='name') | map('lower') | list if results else [] -%}
  {%- set keeps = dbt_enrich._options().get('on_pending', 'keep') == 'keep' -%}
  {%- set same = 'results.enrichment_row = staged.enrichment_row' -%}
  {%- set answered = "results.enrichment_status in ('done', 'stale')" -%}
  {%- set has_values = '(' ~ same ~ ' or ' ~ answered ~ ')' if keeps else same -%}
  {%- set select -%}
    select
      {% for column in columns -%}
      staged.{{ adapter.quote(column) }},
      {% endfor -%}
      {% for output in dbt_enrich._options().get('output', []) -%}
      {%- if output | lower in there -%}
      case when {{ has_values }} then results.{{ adapter.quote(output) }} end
      {%- else -%}
      cast(null as {{ dbt_enrich.host_type(dbt_enrich._output_type(output)) }})
      {%- endif %} as {{ adapter.quote(output) }},
      {% endfor -%}
      {% for column in dbt_enrich._status_columns() -%}
      {%- set name, type = column[0], dbt_enrich._status_type(column[0], column[1]) -%}
      {%- if name == 'enrichment_status' -%}
      cast(
        {%- if not results %}
        'pending'
        {%- else %}
        case
          when {{ same }} then cast(results.enrichment_status as {{ dbt.type_string() }})
          {%- if keeps %}
          when {{ answered }} then 'stale'
          {%- endif %}
          else 'pending'
        end
        {%- endif %}
        as {{ type }}
      )
      {%- elif not results -%}
      cast(null as {{ type }})
      {%- elif name == 'enrichment_error' -%}
      case when {{ same }} then results.{{ name }} end
      {%- else -%}
      case when {{ has_values }} then results.{{ name }} end
      {%- endif %} as {{ name }}{{ '' if loop.last else ',' }}
      {% endfor -%}
    from {{ dbt_enrich._work_relation(target, 'rows') }} as staged
    {% if results -%}
    left join {{ results }} as results on {{ dbt_enrich._same_key('results', 'staged') }}
    {%- endif %}
  {%- endset -%}
  {{ return(select) }}
{% endmacro %}
