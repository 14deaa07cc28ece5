{% macro _count_statuses(relation, content=none) %}
  {% call statement('statuses', fetch_result=true) -%}
    select enrichment_status, count(*)
      {%- for expression in content or [] %}, cast(sum({{ expression }}) as varchar){% endfor %}
    from {{ relation }} group by 1
  {%- endcall %}
  {{ return(load_result('statuses').data) }}
{% endmacro %}
